"""The end of a run: a table, metrics.json and a picture."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from jaxdirect.cli.train.loop import Epoch


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run found.

    Attributes:
        settings: of the run.
        history: one entry per epoch.
        test_accuracy: of the trained network, in [0, 1].
        floors: test accuracies by name.
        row_bytes: bytes of one feature row.
        device: what it ran on.
        seconds: the whole command.
    """

    settings: dict[str, Any]
    history: list[Epoch]
    test_accuracy: float
    floors: dict[str, float]
    row_bytes: int
    device: str
    seconds: float

    def rates(self) -> dict[str, float]:
        """Training nodes and useful gathered GB a second, from the epoch of median speed."""
        # The first epoch compiles; the median over epochs leaves it out.
        ordered = sorted(self.history, key=lambda epoch: epoch.seconds / epoch.nodes)
        middle = ordered[(len(ordered) - 1) // 2]
        return {
            "nodes_per_second": middle.nodes / middle.seconds,
            "gathered_gb_per_second": middle.rows * self.row_bytes / middle.seconds / 1e9,
        }


def write(result: Result, folder: Path) -> None:
    """Writes metrics.json and training.png, each whole or not at all."""
    text = json.dumps({**dataclasses.asdict(result), **result.rates()}, indent=2)
    temporary = folder / "metrics.json.tmp"
    temporary.write_text(text.replace("NaN", "null") + "\n", encoding="utf-8")
    os.replace(temporary, folder / "metrics.json")
    temporary = folder / "training.tmp.png"
    _figure(result).savefig(temporary, dpi=150)
    os.replace(temporary, folder / "training.png")


def show(result: Result, console: Console) -> None:
    """Prints the table."""
    table = Table(
        title=f"test accuracy after {result.history[-1].epoch + 1} epochs on {result.device}"
    )
    table.add_column("")
    table.add_column("accuracy", justify="right")
    for name, accuracy in sorted(result.floors.items(), key=lambda item: item[1]):
        table.add_row(f"floor: {name}", f"{accuracy:.1%}")
    model = str(result.settings["model"])
    table.add_row(f"[bold]{model}[/bold]", f"[bold]{result.test_accuracy:.1%}[/bold]")
    console.print(table)
    rates = result.rates()
    console.print(
        f"{rates['nodes_per_second']:,.0f} training nodes/s, "
        f"{rates['gathered_gb_per_second']:.2f} GB/s of features read, "
        f"{result.seconds:.0f} s in all",
        highlight=False,
    )


def _figure(result: Result) -> Figure:
    """Loss and accuracies per epoch, drawn without a display."""
    matplotlib.use("agg")
    epochs = [epoch.epoch + 1 for epoch in result.history]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [epoch.loss for epoch in result.history], marker="o")
    left.set(xlabel="epoch", ylabel="training loss (cross-entropy, nats)")
    right.plot(epochs, [e.train_accuracy for e in result.history], marker="o", label="training")
    valid = [epoch.valid_accuracy for epoch in result.history]
    if not all(map(math.isnan, valid)):
        right.plot(epochs, valid, marker="o", label="validation")
    right.axhline(result.test_accuracy, color="k", label=f"test {result.test_accuracy:.3f}")
    for name, accuracy in result.floors.items():
        right.axhline(accuracy, color="0.6", linestyle=":")
        place = {"ha": "right", "va": "bottom"}
        right.annotate(name, (epochs[-1], accuracy), color="0.4", fontsize=8, **place)
    right.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1))
    right.legend(loc="lower right", bbox_to_anchor=(1, 0.18), fontsize=8)
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure
