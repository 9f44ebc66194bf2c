"""Sampling two hops from a host CSR of more than 6 GB, against 16 CPU threads."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness.timing import Contender, median, paired_ratio, rounds

import jaxdirect

from . import graphs, native, ours, wholegraph
from .context import Context
from .gather_cases import TABLE_BYTES

FANOUTS = (10, 25)
CALLS = 8


def graph(ctx: Context) -> tuple[graphs.HostGraph, jaxdirect.CSRGraph]:
    """70 M nodes of mean degree about 23: 6.4 GB of entries and 0.6 GB of row starts."""

    def make():
        host = graphs.power_law(ctx, 20_000 if ctx.small else 70_000_000, 25.0, seed=1)
        ctx.note("sampler graph", f"{host.note}, {host.nbytes / 1e9:.2f} GB on the host")
        return host, host.unified()

    return ctx.keep("sampler graph", make)


def run(ctx: Context, batch: int) -> dict[str, Any]:
    """Sampled edges per second of two hops from `batch` seeds, without replacement."""
    host, unified_graph = graph(ctx)
    batch = batch // 20 if ctx.small else batch
    seeds_np = host.seeds(CALLS, batch, seed=batch)
    seeds = jnp.asarray(seeds_np)
    check_sample(host, unified_graph, seeds[0])
    loop = ours.sample_loop(FANOUTS)
    keys = [jax.random.key(i) for i in range(4)]
    edges = int(loop(unified_graph, seeds, keys[0])) / CALLS

    def on_device(index: int) -> None:
        jax.block_until_ready(loop(unified_graph, seeds, keys[index % len(keys)]))

    def on_cpu(index: int) -> None:
        frontier = seeds_np[index % CALLS]
        for hop, fanout in enumerate(FANOUTS):
            out, _ = native.sample(
                host.indptr, host.indices, frontier, fanout, 2 * index + hop, ctx.threads
            )
            frontier = out.reshape(-1)

    contenders = [
        Contender("jaxdirect", on_device, calls=CALLS),
        Contender("cpp", on_cpu),
        *wholegraph.samplers(ctx, TABLE_BYTES, host, seeds_np, FANOUTS),
    ]
    seconds = rounds(contenders, 11, limit_s=20)
    us = seconds["jaxdirect"]
    return {
        "params": {
            "graph": host.note,
            "csr_bytes": host.nbytes,
            "batch": batch,
            "fanouts": FANOUTS,
            "threads": ctx.threads,
        },
        "seconds": {k: median(v) for k, v in seconds.items()},
        "time_s": median(us),
        "edges": edges,
        "edges_per_s": {k: edges / median(v) for k, v in seconds.items()},
        "ratio": {k: paired_ratio(v, us) for k, v in seconds.items() if v is not us},
        "rounds": seconds,
    }


def check_sample(host: graphs.HostGraph, graph: jaxdirect.CSRGraph, seeds: jax.Array) -> None:
    """Raises unless every seed drew min(degree, fanout) distinct edges of its own."""
    fanout = FANOUTS[0]
    out = jax.jit(lambda g, s, k: jaxdirect.sample_neighbors(g, s, fanout, k))(
        graph, seeds, jax.random.key(7)
    )
    neighbors, edge_ids, counts = (np.asarray(a) for a in (out.neighbors, out.edge_ids, out.counts))
    begin, end = host.indptr[np.asarray(seeds)], host.indptr[np.asarray(seeds) + 1]
    if not np.array_equal(counts, np.minimum(end - begin, fanout)):
        raise RuntimeError("sample_neighbors: counts are not min(degree, fanout)")
    for i in range(len(counts)):
        chosen = edge_ids[i, : counts[i]].astype(np.int64)
        inside = (chosen >= begin[i]) & (chosen < end[i])
        if not inside.all() or np.unique(chosen).size != chosen.size:
            raise RuntimeError(f"sample_neighbors: seed {i} drew edges it does not have, or twice")
        if not np.array_equal(host.indices[chosen], neighbors[i, : counts[i]]):
            raise RuntimeError(f"sample_neighbors: seed {i} has neighbours that its edges lack")
