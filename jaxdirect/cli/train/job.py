"""A whole run: data, training with checkpoints, test, report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxdirect.cli.train import report
from jaxdirect.cli.train.checkpoint import Checkpoints
from jaxdirect.cli.train.dataset import fingerprint, load
from jaxdirect.cli.train.floors import measure_floors
from jaxdirect.cli.train.loop import Epoch, Trainer, num_steps
from jaxdirect.cli.train.options import Options
from jaxdirect.cli.train.relational import relational_task
from jaxdirect.cli.train.sage import sage_task
from jaxdirect.cli.train.step import TrainState
from jaxdirect.data import Graph

_OUTPUT = "jaxdirect-train"
_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(),
)


def run_job(options: Options) -> report.Result:
    """Trains, tests and reports, as the options say.

    Raises:
        ValueError: files, checkpoints, output folder or device are not as they must be.
    """
    start = time.perf_counter()
    console = Console()
    device = _device(options.device)
    folder = _folder(options)
    graph, features = load(options)
    settings = {**options.settings(), **fingerprint(graph, features)}
    checkpoints = Checkpoints(folder, settings)
    try:
        if not options.resume and checkpoints.latest() is not None:
            raise ValueError(
                f"--output {folder} holds a run already; add --resume to continue it, or choose "
                "another --output"
            )
        if isinstance(graph, Graph):
            task = sage_task(graph, options)
        else:
            task = relational_task(graph, options)
        trainer = Trainer.create(task, options)
        state, history = trainer.initial, []
        if options.resume:
            state, history = checkpoints.restore(state)
        place = "on the device" if task.whole_graph else "in host memory"
        console.print(
            f"{graph.num_nodes:,} nodes, {graph.num_classes} classes, "
            f"{features.nbytes / 1e6:,.0f} MB of features {place}; "
            f"{device.device_kind}; writing to {folder}",
            highlight=False,
        )
        state, history = _train(trainer, state, history, checkpoints, console)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"continue with the same flags and --resume --output {folder}"
        ) from None
    finally:
        checkpoints.close()
    with console.status("test"):
        accuracy = trainer.test(state)
    floors = measure_floors(task, options, console)
    result = report.Result(
        settings=settings,
        history=history,
        test_accuracy=accuracy,
        floors=floors,
        row_bytes=features.itemsize * features.shape[1],
        device=device.device_kind,
        seconds=time.perf_counter() - start,
    )
    report.write(result, folder)
    report.show(result, console)
    console.print(f"{folder / 'training.png'}, {folder / 'metrics.json'}", highlight=False)
    return result


def _train(
    trainer: Trainer,
    state: TrainState,
    history: list[Epoch],
    checkpoints: Checkpoints,
    console: Console,
) -> tuple[TrainState, list[Epoch]]:
    options = trainer.options
    steps = num_steps(trainer.task, options)
    with Progress(*_COLUMNS, console=console) as progress:
        done = history[-1].epoch + 1 if history else 0
        task = progress.add_task("steps", total=options.epochs * steps, completed=done * steps)
        while done < options.epochs:
            state, epoch = trainer.train(state, done, lambda: progress.advance(task))
            done = epoch.epoch + 1
            history = [*history, epoch]
            checkpoints.save(state, history)
            console.print(
                f"epoch {done}: loss {epoch.loss:.4f}, accuracy {epoch.train_accuracy:.3f}, "
                f"validation {epoch.valid_accuracy:.3f}, {epoch.seconds:.1f} s",
                highlight=False,
            )
    return state, history


def _device(wanted: str | None) -> Any:
    if wanted is not None:
        jax.config.update("jax_platforms", "cpu" if wanted == "cpu" else "cuda,cpu")
    try:
        device = jax.local_devices()[0]
    except RuntimeError as error:
        raise ValueError(
            f"--device {wanted}: JAX found none ({str(error).splitlines()[0]}); see jaxdirect info"
        ) from error
    if wanted is not None and device.platform != wanted:
        raise ValueError(f"--device {wanted}: JAX runs on {device.platform}; see jaxdirect info")
    return device


def _folder(options: Options) -> Path:
    """The run's folder: the one asked for, or the first free default."""
    if options.output is not None:
        folder = options.output
    else:
        folder, number = Path(_OUTPUT), 1
        while folder.exists():
            number += 1
            folder = Path(f"{_OUTPUT}-{number}")
    if options.resume and not (folder / "checkpoints").is_dir():
        raise ValueError(
            f"--resume found no checkpoint in {folder}; check --output, or start anew without "
            "--resume"
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output must be a folder, got the file {folder}; choose another")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
