"""Real sampled mini-batches: the ids of two sampled hops, given order against auto."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness.timing import Contender, rounds

import jaxdirect

from . import gather_cases, graphs, link, ours
from .context import Context, Pages, check_rows

FANOUTS = (10, 25)
IDS_PER_SEED = 1 + FANOUTS[0] + FANOUTS[0] * FANOUTS[1]
SEEDS = {1_000: 4, 10_000: 38, 100_000: 383, 1_000_000: 3_832, 4_000_000: 15_326}
ROW_BYTES = (128, 400, 1024)
TILES = 64
TIMING_S = 0.03


def graph(ctx: Context, name: str) -> tuple[graphs.HostGraph, jaxdirect.CSRGraph]:
    """The named graph on the host, and unified; the power-law one has over 50 M edges."""

    def make():
        if name == "wordnet":
            host = graphs.wordnet(2 if ctx.small else TILES)
        else:
            host = graphs.power_law(ctx, 20_000 if ctx.small else 7_500_000, 20.0)
        ctx.note(name, host.note)
        return host, host.unified()

    return ctx.keep(name, make)


def run(ctx: Context, name: str, ids_wanted: int, row_bytes: int) -> dict[str, Any]:
    """Paired times of one cell: a graph, a batch size, a row size."""
    host_graph, unified_graph = graph(ctx, name)
    table_bytes = max(ROW_BYTES) * host_graph.nodes // 4096 * 4096
    pages = ctx.keep(f"{name} pages", lambda: Pages(table_bytes, ctx.threads))
    if not ctx.link:
        ctx.link.update(link.measure(ctx, pages))
    width = row_bytes // 4
    host = pages.flat[: host_graph.nodes * width].reshape(host_graph.nodes, width)
    batch = max(1, SEEDS[ids_wanted] // (8 if ctx.small else 1))
    call_bytes = batch * IDS_PER_SEED * row_bytes
    # Enough different batches that their rows together are several times the 60 MB L2 cache.
    sets = 3 if ctx.small else int(np.clip(-(-(256 << 20) // call_bytes), 3, 512))
    seeds = jnp.asarray(host_graph.seeds(sets, batch, seed=ids_wanted))
    id_sets = ours.batch_ids(FANOUTS)(unified_graph, seeds, jax.random.key(row_bytes))
    first = np.asarray(id_sets[0])
    table = jaxdirect.unified(host)
    orders = ("auto", "given", "sorted")
    for order in orders:
        check_rows(order, ours.gather_once(order)(table, id_sets[0]), host, first)
    repeats = 1 if ctx.small else _repeats(gather_cases.jax_contender("given", table, id_sets))
    contenders = [gather_cases.jax_contender(o, table, id_sets, repeats) for o in orders]
    seconds = rounds(contenders, 5 if ctx.small else 15, limit_s=12)
    record = gather_cases.summary(ctx, seconds, call_bytes)
    valid = first[first >= 0]
    record["params"] = {
        "graph": host_graph.note,
        "ids": batch * IDS_PER_SEED,
        "row_bytes": row_bytes,
        "table_bytes": host.nbytes,
        "seeds": batch,
        "fanouts": FANOUTS,
        "calls": sets * repeats,
    }
    record["padding"] = 1 - valid.size / first.size
    record["distinct"] = np.unique(valid).size / valid.size
    return record


def _repeats(contender: Contender) -> int:
    """Loops a timing makes, so that the host's part in it (about 1 ms) does not show."""
    contender.run(0)
    begin = time.perf_counter()
    contender.run(0)
    return int(np.clip(TIMING_S / (time.perf_counter() - begin), 1, 100))
