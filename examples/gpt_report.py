"""What train_gpt.py finds for each policy, as a table and as a picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Result:
    """What one policy has given.

    Attributes:
        losses: of all steps.
        held_out: loss on text that was not learned.
        seconds: the median step.
        tokens: of a step.
        peak_bytes: device memory of a step, with the cache's staging.
        activations: of keep's named activations, the share that this policy has on the device.
        host_bytes: host memory that waiting values took.
        disk_rate: bytes a second, written and read.
    """

    losses: np.ndarray
    held_out: float
    seconds: float
    tokens: int
    peak_bytes: int
    activations: float
    host_bytes: int
    disk_rate: float

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def apart(result: Result, base: Result) -> str:
    """How far a curve is from another, over the steps that both have taken."""
    count = min(len(result.losses), len(base.losses))
    most = np.abs(result.losses[:count] - base.losses[:count]).max()
    return "same bits" if most == 0 else f"{most:.1e}"


def table(results: dict[str, Result]) -> str:
    """A row for each policy; curves are compared with the first one's."""
    first, base = next(iter(results.items()))
    columns = {
        "policy": list(results),
        "steps": [f"{len(r.losses)}" for r in results.values()],
        "loss": [f"{r.losses[0]:.3f} to {r.losses[-1]:.3f}" for r in results.values()],
        "held out": [f"{r.held_out:.3f}" for r in results.values()],
        f"curve vs {first}": ["" if r is base else apart(r, base) for r in results.values()],
        "ms": [f"{1e3 * r.seconds:.1f}" for r in results.values()],
        "tokens/s": [f"{r.rate:,.0f}" for r in results.values()],
        "peak MiB": [f"{r.peak_bytes / MIB:,.1f}" for r in results.values()],
        "activations": [f"{r.activations:.0%}" for r in results.values()],
        "host MiB": [f"{r.host_bytes / MIB:,.1f}" for r in results.values()],
        "disk MB/s": [f"{r.disk_rate / 1e6:,.0f}" for r in results.values()],
    }
    aligned = []
    for title, cells in columns.items():
        width, side = max(map(len, [title, *cells])), ">" if aligned else "<"
        aligned.append([f"{cell:{side}{width}}" for cell in (title, *cells)])
    return "\n".join("  ".join(row) for row in zip(*aligned, strict=True))


def picture(results: dict[str, Result], path: Path) -> None:
    """Loss curves on top of each other; tokens a second against device memory."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (curves, memory) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    top = max(result.rate for result in results.values())
    by_memory = sorted(results, key=lambda name: results[name].peak_bytes)
    for at, (name, result) in enumerate(results.items()):
        # Those below stay visible: each curve is thinner than the one before it.
        width = 2 * (len(results) - at)
        steps = np.arange(1, len(result.losses) + 1)
        curves.plot(steps, result.losses, color=f"C{at}", linewidth=width, label=name)
        point = (result.peak_bytes / MIB, result.rate)
        memory.scatter(*point, s=60, color=f"C{at}")
        # Labels of neighbours above and below them, in the colour of their points.
        shift = (0, -18 if by_memory.index(name) % 2 else 8)
        memory.annotate(
            name, point, xytext=shift, textcoords="offset points", ha="center", color=f"C{at}"
        )
    curves.set(xlabel="step", ylabel="loss (nats a byte)")
    curves.legend()
    memory.margins(x=0.2)
    memory.set(xlabel="device memory of a step (MiB)", ylabel="tokens a second")
    memory.set_ylim(0, 1.15 * top)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
