"""The case of the disk tier: its rate against that of plain writes and reads of the same bytes."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxdirect import offload

from . import plain_io, run
from .cases import Case

LAYERS, VALUE_BYTES, SMALL_VALUE_BYTES = 8, 256 << 20, 1 << 20
THREADS, ROUNDS = 8, 5
WAIT_S = 60  # for the last writes of a step


@dataclasses.dataclass(frozen=True)
class Moved:
    """What went to the disk and came from it, and the seconds from the first to the last byte."""

    written: int
    read: int
    seconds: float

    @property
    def rate(self) -> float:
        """Bytes a second, both ways together."""
        return (self.written + self.read) / self.seconds


def measure(ctx: run.Context, case: Case) -> dict[str, Any]:
    """The record of the case; a loop of ours and plain calls take turns."""
    size = SMALL_VALUE_BYTES if ctx.small else VALUE_BYTES
    offload.clear()
    offload.configure(staging_bytes=0)
    with tempfile.TemporaryDirectory(dir=_folder(ctx), prefix="offload-") as folder:
        offload.configure(directory=folder, disk_threads=THREADS)
        with plain_io.File(folder, LAYERS * size, size, THREADS) as file:
            step, args = _loop(size, disk=["value"])
            _ours(step, args, LAYERS * size)
            file.write(LAYERS * size)
            file.read(LAYERS * size)
            ours, plain = [], []
            for _ in range(ctx.rounds or ROUNDS):
                ours.append(_ours(step, args, LAYERS * size))
                written, read = ours[-1].written, ours[-1].read
                begin = time.perf_counter()
                file.write(written)
                file.read(read)
                plain.append(Moved(written, read, time.perf_counter() - begin))
            direct = file.direct
    offload.clear()
    return {
        "kept_seconds": _kept(*_loop(size, keep=["value"])),
        "value_bytes": size,
        "layers": LAYERS,
        "direct": direct,
        "ours": [dataclasses.asdict(m) for m in ours],
        "plain": [dataclasses.asdict(m) for m in plain],
        "ours_bytes_per_s": statistics.median(m.rate for m in ours),
        "plain_bytes_per_s": statistics.median(m.rate for m in plain),
        "ratio": statistics.median(o.rate / p.rate for o, p in zip(ours, plain, strict=True)),
    }


def _folder(ctx: run.Context) -> Path:
    """That of the option, else that of the results."""
    given, file = ctx.options.directory, ctx.options.resume or ctx.options.output
    folder = given or (file.parent if file is not None else Path(tempfile.gettempdir()))
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def _loop(size: int, **places: list[str]) -> tuple[Any, tuple[jax.Array, jax.Array]]:
    """The gradient of layers whose backward pass takes one "value" each; and its arguments."""

    def layer(x: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.abs(offload.name(x * w, "value"))  # next to no work beside what moves

    moved = offload.checkpoint(layer, offload.Policy(**places), prevent_cse=False)

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, w: (moved(x, w), None), x, w)[0].sum()

    weights = jnp.linspace(0.5, 1.5, LAYERS)
    x = jax.random.normal(jax.random.key(0), (size // 4,))
    return jax.jit(jax.grad(loss)), (weights, x)


def _kept(step: Any, args: tuple) -> float:
    """Seconds of the same loop where nothing moves: little beside the others, or it bounds ours."""
    found = []
    for _ in range(3):
        begin = time.perf_counter()
        jax.block_until_ready(step(*args))
        found.append(time.perf_counter() - begin)
    return min(found)


def _ours(step: Any, args: tuple, stored: int) -> Moved:
    """One loop, until all of its values are on the disk: the last come back before they are."""
    before, begin = offload.stats(), time.perf_counter()
    jax.block_until_ready(step(*args))
    while True:
        after, seconds = offload.stats(), time.perf_counter() - begin
        written = after["disk_written_bytes"] - before["disk_written_bytes"]
        if written >= stored:
            break
        if seconds > WAIT_S:
            raise RuntimeError(f"{written} of {stored} bytes are on the disk after {WAIT_S} s")
        time.sleep(0.0005)
    read = after["disk_read_bytes"] - before["disk_read_bytes"]
    return Moved(written, read, seconds)
