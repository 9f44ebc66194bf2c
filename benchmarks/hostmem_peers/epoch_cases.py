"""An epoch of GraphSAGE with features on the host: the CPU-centric loop against jaxdirect.

`jaxdirect` leaves graph and features on the host, `graph_on_gpu` moves the graph to the GPU (it
is a seventh of the features), and `hot_on_gpu` also caches the features of the fifth of the nodes
that has the most neighbours there (`jaxdirect.cache_rows`). The rivals are `cpu`, which gathers a
row for every id of a batch, and `cpu_distinct`, which gathers each node of a batch once and spreads
the rows on the GPU.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness.timing import Contender, median, paired_ratio, rounds

import jaxdirect

from . import batch_cases, sage
from .context import Context, Pages
from .loader import Loader


def run(ctx: Context, batch: int, steps: int) -> dict[str, Any]:
    """Seconds of `steps` mini-batches, and where they go."""
    graph, unified_graph = batch_cases.graph(ctx, "powerlaw")
    model = sage.Model(batch // (32 if ctx.small else 1))
    steps = 4 if ctx.small else steps
    row_bytes = model.features * 4
    pages = ctx.keep(
        f"features {row_bytes}",
        lambda: Pages(-(-graph.nodes * row_bytes // 4096) * 4096, ctx.threads),
    )
    host = pages.flat[: graph.nodes * model.features].reshape(graph.nodes, model.features)
    table = jaxdirect.unified(host)
    seeds_np = graph.seeds(steps, model.batch, seed=11)
    seeds = [jnp.asarray(s) for s in seeds_np]
    keys = list(jax.random.split(jax.random.key(5), steps))
    weights = sage.init(model, jax.random.key(0))
    copy = lambda: jax.tree.map(jnp.copy, weights)  # noqa: E731  (steps donate their weights)

    gpu_graph = jaxdirect.CSRGraph(
        jnp.asarray(graph.indptr.astype(np.int32)), jnp.asarray(graph.indices)
    )
    most_neighbours = np.argsort(-np.diff(graph.indptr), kind="stable")[: graph.nodes // 5]
    cached = jaxdirect.cache_rows(table, most_neighbours)

    all_seeds, all_keys, train = jnp.asarray(seeds_np), jnp.stack(keys), sage.train_epoch(model)

    def direct(name: str, features: Any, csr: jaxdirect.CSRGraph) -> Contender:
        def epoch(_: int) -> None:
            jax.block_until_ready(train(copy(), features, csr, all_seeds, all_keys))

        return Contender(name, epoch)

    splits: dict[str, dict[str, float]] = {}

    def rival(name: str, distinct: bool) -> Contender:
        loader = Loader(ctx, graph, host, model, distinct)

        def epoch(index: int) -> None:
            _, splits[name] = loader.epoch(copy(), seeds_np, index)

        return Contender(name, epoch)

    contenders = [
        direct("jaxdirect", table, unified_graph),
        direct("graph_on_gpu", table, gpu_graph),
        direct("hot_on_gpu", cached, gpu_graph),
        rival("cpu", False),
        rival("cpu_distinct", True),
    ]
    seconds = rounds(contenders, 5, limit_s=90)
    splits["jaxdirect"] = _split(model, table, unified_graph, seeds, keys, copy())
    splits["hot_on_gpu"] = _split(model, cached, gpu_graph, seeds, keys, copy())
    ids = sage.sample_only(model)(gpu_graph, seeds[0], keys[0])
    best = min(("cpu", "cpu_distinct"), key=lambda name: median(seconds[name]))
    ratio = {
        k: paired_ratio(v, seconds["jaxdirect"]) for k, v in seconds.items() if k != "jaxdirect"
    }
    return {
        "hot_speedup": {
            k: paired_ratio(seconds[k], seconds["hot_on_gpu"]) for k in ("cpu", "cpu_distinct")
        },
        "params": {
            "hot_rows": len(most_neighbours),
            "hit_rate": float(cached.hit_rate(ids)),
            "graph": graph.note,
            "batch": model.batch,
            "steps": steps,
            "fanouts": model.fanouts,
            "features": model.features,
            "hidden": model.hidden,
            "dtype": "float32",
            "threads": ctx.threads,
            "labels": "node id modulo classes",
        },
        "seconds": {k: median(v) for k, v in seconds.items()},
        "time_s": median(seconds["jaxdirect"]),
        "ratio": ratio | {"cpu_best": ratio[best]},
        "split_s_per_step": splits,
        "rounds": seconds,
    }


def _split(model: sage.Model, table, graph, seeds, keys, params) -> dict[str, float]:
    """Seconds per step of sampling, gather and compute, each run alone (they share no overlap)."""
    sample, gather = sage.sample_only(model), jax.jit(jaxdirect.gather)
    train = sage.train_rows(model)
    ids = [sample(graph, s, k) for s, k in zip(seeds, keys, strict=True)]
    rows = gather(table, ids[0])
    state = [params]

    def each(call) -> None:
        jax.block_until_ready([call(i) for i in range(len(seeds))])

    def compute(_: int):
        state[0], loss = train(state[0], rows, ids[0])
        return loss

    parts = [
        Contender(
            "sample", lambda _: each(lambda i: sample(graph, seeds[i], keys[i])[0]), len(seeds)
        ),
        Contender("gather", lambda _: each(lambda i: gather(table, ids[i])[0, 0]), len(seeds)),
        Contender("compute", lambda _: each(compute), len(seeds)),
    ]
    return {k: median(v) for k, v in rounds(parts, 3).items()}
