"""Uniform ids over one table: every row size, two table sizes, odd rows, rows off alignment."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness.timing import Contender, median, paired_ratio, rounds

import jaxdirect

from . import link, ours, rivals, wholegraph
from .context import Context, Pages, check_rows, random_ids

GIB = 1 << 30
TABLE_BYTES = 16 * GIB
# Id sets per timed loop, each read once, so no call finds its rows in the L2 cache. Given order
# is slow on short rows, and takes fewer. The host's part of a timing is about 1 ms, so `auto`
# repeats its loop.
CALLS = 16
FEW_CALLS = 4
REPEATS = 4


@dataclasses.dataclass(frozen=True)
class Shape:
    """Table bytes, row bytes, bytes gathered per call, and where the table starts."""

    table_bytes: int
    row_bytes: int
    call_bytes: int = 512 << 20
    offset: int = 0

    def scaled(self, ctx: Context) -> Shape:
        """The same case at 1/2048 of the size when `--small`."""
        if not ctx.small:
            return self
        table, call = self.table_bytes // 2048, self.call_bytes // 2048
        return dataclasses.replace(self, table_bytes=max(table, 2 << 20), call_bytes=call)


def pages(ctx: Context) -> Pages:
    """The 16 GiB of registered host memory that all these cases look at; measures the link once."""
    nbytes = TABLE_BYTES // (2048 if ctx.small else 1)
    made = ctx.keep("pages", lambda: Pages(nbytes, ctx.threads))
    if not ctx.link:
        ctx.link.update(link.measure(ctx, made))
    return made


def run(ctx: Context, shape: Shape) -> dict[str, Any]:
    """Times every contender on one shape.

    Returns:
        The record: seconds, GB/s, ratios, ceilings and how many of the ids are distinct.
    """
    shape = shape.scaled(ctx)
    host = pages(ctx).numpy(shape.row_bytes, shape.table_bytes, shape.offset)
    n = max(1, shape.call_bytes // shape.row_bytes)
    ids = random_ids(len(host), CALLS, n, seed=shape.row_bytes + shape.offset)
    table = jaxdirect.unified(host)
    id_sets = jnp.asarray(ids)
    given_sets = id_sets if shape.row_bytes >= 512 else id_sets[:FEW_CALLS]
    contenders = [
        jax_contender("auto", table, id_sets, REPEATS),
        jax_contender("given", table, given_sets),
        jax_contender("sorted", table, id_sets),
    ]
    for order in ("auto", "given", "sorted"):
        check_rows(order, ours.gather_once(order)(table, id_sets[0]), host, ids[0])

    work = rivals.Work(host, ids)
    staging = rivals.Staging(ctx, work.call_bytes)
    cpu = [*rivals.threaded(ctx, work, staging), *rivals.torch_threaded(ctx, work, staging)]
    for contender in cpu:
        contender.run(0)
        check_rows(contender.name, staging.rows(shape.row_bytes)[:n], host, ids[0])
    cpu += rivals.torch_serial(ctx, work)
    contenders += cpu + rivals.torch_loader(ctx, work) + rivals.numpy_put(ctx, work)

    contenders += wholegraph.gathers(ctx, TABLE_BYTES, host, ids)
    contenders = [c for c in contenders if c.name not in ctx.without]
    seconds = rounds(contenders, 9, limit_s=20)
    record = summary(ctx, seconds, n * shape.row_bytes)
    record["params"] = dataclasses.asdict(shape) | {"ids": n, "rows": len(host), "dtype": "float32"}
    record["distinct"] = float(np.mean([np.unique(s).size / s.size for s in ids[:1]]))
    return record


def jax_contender(order: str, table: jax.Array, id_sets: jax.Array, repeats: int = 1) -> Contender:
    """Our gather over all id sets inside one jit, dispatched `repeats` times in a row."""
    loop = ours.gather_loop(order)

    def run(_: int) -> None:
        jax.block_until_ready([loop(table, id_sets) for _ in range(repeats)])

    return Contender(order, run, calls=repeats * len(id_sets))


def summary(ctx: Context, seconds: dict[str, list[float | None]], nbytes: int) -> dict[str, Any]:
    """Medians, rates, paired ratios (peer / ours); `cpu_best` is the fastest CPU rival."""
    ours_s = seconds["auto"]
    best = min(
        (name for name in ("cpp", "cpp_stream", "torch_dma") if name in seconds),
        key=lambda name: median(seconds[name]),
        default=None,
    )
    ratio = {k: paired_ratio(v, ours_s) for k, v in seconds.items() if k != "auto"}
    if best is not None:
        ratio["cpu_best"] = ratio[best]
    time = median(ours_s)
    record: dict[str, Any] = {
        "seconds": {k: median(v) for k, v in seconds.items()},
        "rounds": {k: [v for v in vs if v is not None] for k, vs in seconds.items()},
        "gb_per_s": {k: nbytes / median(v) / 1e9 for k, v in seconds.items()},
        "ratio": ratio,
        "time_s": time,
    }
    if "sequential" in ctx.link:
        record["share"] = nbytes / time / ctx.link["sequential"]
        record["link"] = {k: v / 1e9 for k, v in ctx.link.items()}
    return record
