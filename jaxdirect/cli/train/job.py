"""A whole run: data, training with checkpoints, test, report."""

from __future__ import annotations

import time
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import jaxdirect
from jaxdirect.cli.train import report
from jaxdirect.cli.train.checkpoint import Checkpoints
from jaxdirect.cli.train.floors import measure_floors
from jaxdirect.cli.train.loop import Epoch, Trainer, num_batches
from jaxdirect.cli.train.options import Options
from jaxdirect.cli.train.step import Inputs, TrainState
from jaxdirect.data import Graph, from_files, wordnet

_OUTPUT = "jaxdirect-train"


def run_job(options: Options) -> report.Result:
    """Trains, tests and reports, as the options say.

    Raises:
        ValueError: files, checkpoints, output folder or device are not as they must be.
    """
    start = time.perf_counter()
    console = Console()
    device = _device(options.device)
    folder = _folder(options)
    graph = _load(options)
    settings = {**options.settings(), **_fingerprint(graph)}
    checkpoints = Checkpoints(folder, settings)
    try:
        if not options.resume and checkpoints.latest() is not None:
            raise ValueError(
                f"--output {folder} holds a run already; add --resume to continue it, or choose "
                "another --output"
            )
        inputs = _inputs(graph, options.cache)
        trainer = Trainer.create(graph, inputs, options)
        state, history = trainer.initial, []
        if options.resume:
            state, history = checkpoints.restore(state)
        console.print(
            f"{graph.num_nodes:,} nodes, {graph.num_classes} classes, "
            f"{graph.features.nbytes / 1e6:,.0f} MB of features in host memory; "
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
    with console.status("floors"):
        floors = measure_floors(graph, inputs, options)
    with console.status("test"):
        accuracy = trainer.test(state)
    result = report.Result(
        settings=settings,
        history=history,
        test_accuracy=accuracy,
        floors=floors,
        row_bytes=graph.features.itemsize * graph.features.shape[1],
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
    steps = num_batches(trainer.graph.train.size, options.batch_size)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        first = len(history)
        task = progress.add_task("steps", total=options.epochs * steps, completed=first * steps)
        for number in range(first, options.epochs):
            state, epoch = trainer.epoch(state, number, lambda: progress.advance(task))
            history = [*history, epoch]
            checkpoints.save(state, history)
            console.print(
                f"epoch {number + 1}: loss {epoch.loss:.4f}, accuracy {epoch.train_accuracy:.3f}, "
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


def _load(options: Options) -> Graph:
    if options.edges is None or options.features is None or options.labels is None:
        return wordnet(feature_dim=options.feature_dim, seed=options.seed)
    graph = from_files(options.edges, options.features, options.labels, seed=options.seed)
    for name, flag in (("train", graph.train), ("test", graph.test)):
        if flag.size == 0:
            raise ValueError(f"--labels {options.labels}: no {name} nodes; label more nodes")
    return graph


def _fingerprint(graph: Graph) -> dict[str, Any]:
    """Tells one data set from another when a run is continued."""
    arrays = (graph.indptr, graph.indices, graph.labels, graph.train, graph.valid, graph.test)
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return {"data": f"{list(graph.features.shape)} {graph.features.dtype} {checksum:08x}"}


def _inputs(graph: Graph, cache: float) -> Inputs:
    table = jaxdirect.unified(graph.features)
    if cache > 0:
        draws = np.bincount(np.asarray(graph.indices), minlength=graph.num_nodes)
        most_drawn = np.argsort(-draws, kind="stable")[: round(cache * graph.num_nodes)]
        table = jaxdirect.cache_rows(table, most_drawn)
    return Inputs(
        jaxdirect.CSRGraph(jaxdirect.unified(graph.indptr), jaxdirect.unified(graph.indices)),
        table,
        jnp.asarray(graph.labels),
    )
