"""The CPU backend: gather and sample_neighbors against XLA:CPU and NumPy, in paired medians."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness.timing import Contender, median, paired_ratio, rounds

import jaxdirect

from . import graphs, ours
from .context import Context, check_rows, random_ids
from .sampler_cases import check_sample


def gather(ctx: Context, row_bytes: int, n: int) -> dict[str, Any]:
    """One gather of n rows from a 256 MiB table.

    `xla` is the jitted `table.at[ids].get(mode="fill", fill_value=0)`, which means the same;
    `xla_clip` is `jnp.take(mode="clip")`, which does not look for ids out of range.
    """
    table_bytes, n = (2 << 20, max(n // 32, 8)) if ctx.small else (256 << 20, n)
    host = jaxdirect.empty((table_bytes // row_bytes, row_bytes // 4), np.float32)
    host[:] = np.random.default_rng(1).random(host.shape, np.float32)
    calls = int(np.clip((4 << 20) // (n * row_bytes), 1, 200))
    ids = random_ids(len(host), calls, n, seed=row_bytes)
    sets = [jnp.asarray(s) for s in ids]
    table, plain = jaxdirect.unified(host), jnp.asarray(host)
    calls_of = {
        "auto": (ours.gather_once("auto"), table),
        "xla": (jax.jit(lambda t, i: t.at[i].get(mode="fill", fill_value=0)), plain),
        "xla_clip": (jax.jit(lambda t, i: jnp.take(t, i, axis=0, mode="clip")), plain),
    }
    check_rows("auto", calls_of["auto"][0](table, sets[0]), host, ids[0])

    def jitted(name: str) -> Contender:
        call, source = calls_of[name]
        return Contender(
            name, lambda _: jax.block_until_ready([call(source, s) for s in sets]), calls=calls
        )

    def take(_: int) -> None:
        for s in ids:
            np.take(host, s, axis=0)

    contenders = [*(jitted(name) for name in calls_of), Contender("numpy", take, calls=calls)]
    seconds = rounds(contenders, 5 if ctx.small else 41, limit_s=12)
    nbytes = n * row_bytes
    params = {"row_bytes": row_bytes, "ids": n, "table_bytes": host.nbytes}
    return {"params": params, **_record(seconds, "auto", nbytes=nbytes)}


def sample(ctx: Context, batch: int, replace: bool) -> dict[str, Any]:
    """Two hops on a power-law graph of mean degree 20; NumPy draws the same way, vectorised."""
    host = ctx.keep(
        "cpu graph", lambda: graphs.power_law(ctx, 20_000 if ctx.small else 500_000, 20)
    )
    fanouts = (10, 25)
    batch = batch // 10 if ctx.small else batch
    graph = host.unified()
    seeds = host.seeds(4, batch, seed=3)
    if not replace:
        check_sample(host, graph, jnp.asarray(seeds[0]))
    hops = jax.jit(lambda g, s, k: ours.two_hops(g, s, fanouts, k, replace))
    keys = list(jax.random.split(jax.random.key(1), 4))
    edges = int(hops(graph, jnp.asarray(seeds[0]), keys[0])[2])
    plain = tuple(jnp.asarray(a.astype(np.int32)) for a in (host.indptr, host.indices))

    def direct(index: int) -> None:
        i = index % 4
        jax.block_until_ready(hops(graph, jnp.asarray(seeds[i]), keys[i]))

    def with_numpy(index: int) -> None:
        rng, frontier = np.random.default_rng(index), seeds[index % 4]
        draw = _numpy_replace if replace else _numpy_distinct
        for fanout in fanouts:
            frontier = draw(host, frontier, fanout, rng).reshape(-1)

    contenders = [Contender("jaxdirect", direct), Contender("numpy", with_numpy)]
    if replace:
        xla = jax.jit(lambda g, s, k: _xla_replace(g, s, fanouts, k))

        def with_xla(index: int) -> None:
            i = index % 4
            jax.block_until_ready(xla(plain, jnp.asarray(seeds[i]), keys[i]))

        contenders.append(Contender("xla", with_xla))
    seconds = rounds(contenders, 5 if ctx.small else 21, limit_s=15)
    record = _record(seconds, "jaxdirect")
    record["edges_per_s"] = {k: edges / v for k, v in record["seconds"].items()}
    params = {"graph": host.note, "batch": batch, "fanouts": fanouts, "replace": replace}
    return {"params": params, "edges": edges, **record}


def _numpy_replace(host: graphs.HostGraph, seeds: np.ndarray, fanout: int, rng) -> np.ndarray:
    known = np.maximum(seeds, 0)
    begin = host.indptr[known]
    degree = np.where(seeds < 0, 0, host.indptr[known + 1] - begin)
    draws = (rng.random((len(seeds), fanout), np.float32) * degree[:, None]).astype(np.int64)
    draws = np.minimum(draws, degree[:, None] - 1)
    edges = np.clip(begin[:, None] + draws, 0, len(host.indices) - 1)
    return np.where(degree[:, None] > 0, host.indices[edges], -1)


def _numpy_distinct(host: graphs.HostGraph, seeds: np.ndarray, fanout: int, rng) -> np.ndarray:
    """Floyd's method over all rows at once; rows of degree <= fanout are taken whole."""
    known = np.maximum(seeds, 0)
    begin = host.indptr[known]
    degree = np.where(seeds < 0, 0, host.indptr[known + 1] - begin)
    picks = np.broadcast_to(np.arange(fanout), (len(seeds), fanout)).copy()
    long = degree > fanout
    drawn = np.empty((int(long.sum()), fanout), np.int64)
    uniform = rng.random(drawn.shape, np.float32)
    for j in range(fanout):
        last = degree[long] - fanout + j
        draw = np.minimum((uniform[:, j] * (last + 1)).astype(np.int64), last)
        clash = (drawn[:, :j] == draw[:, None]).any(axis=1)
        drawn[:, j] = np.where(clash, last, draw)
    picks[long] = drawn
    edges = np.clip(begin[:, None] + picks, 0, len(host.indices) - 1)
    return np.where(picks < degree[:, None], host.indices[edges], -1)


def _xla_replace(graph, seeds, fanouts, key):
    indptr, indices = graph
    frontier, found = seeds, []
    for fanout, k in zip(fanouts, jax.random.split(key), strict=True):
        known = jnp.maximum(frontier, 0)
        begin = indptr[known]
        degree = jnp.where(frontier < 0, 0, indptr[known + 1] - begin)
        uniform = jax.random.uniform(k, (len(frontier), fanout))
        draws = jnp.minimum((uniform * degree[:, None]).astype(jnp.int32), degree[:, None] - 1)
        drawn = jnp.where(degree[:, None] > 0, indices[begin[:, None] + draws], -1)
        found.append(drawn)
        frontier = drawn.reshape(-1)
    return found


def _record(
    seconds: dict[str, list[float | None]], us: str, nbytes: int | None = None
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "seconds": {k: median(v) for k, v in seconds.items()},
        "time_s": median(seconds[us]),
        "ratio": {k: paired_ratio(v, seconds[us]) for k, v in seconds.items() if k != us},
        "rounds": seconds,
    }
    if nbytes is not None:
        record["gb_per_s"] = {k: nbytes / median(v) / 1e9 for k, v in seconds.items()}
    return record
