"""A process of its own that times what the first call of a layer takes.

JAX, its backend and the library are loaded, and the graph's plan built, before the clock starts.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from relational_peers import device, graphs, ours

from . import contenders
from .problem import LayerProblem

WARM_CALLS = 10


def timed(function: Callable, *arguments: Any) -> dict[str, float]:
    """Seconds of each part of a function's first call, all of it, and a later call."""
    clock = [time.perf_counter()]
    traced = jax.jit(function).trace(*arguments)
    clock.append(time.perf_counter())
    lowered = traced.lower()
    clock.append(time.perf_counter())
    compiled = lowered.compile()
    clock.append(time.perf_counter())
    jax.block_until_ready(compiled(*arguments))
    clock.append(time.perf_counter())
    warm = []
    for _ in range(WARM_CALLS):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        warm.append(time.perf_counter() - begin)
    names = ("trace_s", "lower_s", "compile_s", "run_s")
    parts = {k: b - a for k, a, b in zip(names, clock, clock[1:], strict=False)}
    return parts | {"cold_s": clock[-1] - clock[0], "warm_s": statistics.median(warm)}


def measure(job: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The training step of a fresh process, then the forward pass after `jax.clear_caches`."""
    graph = graphs.make(job["graph"])
    problem = LayerProblem(job["model"], graph, heads=job["heads"])
    plan, _ = ours.build_plan(graph)
    x, tables, cotangent = problem.inputs()[0], problem.tables(), problem.cotangent()
    jax.block_until_ready(jax.jit(lambda a: a.T @ a)(jnp.ones((8, 8))))
    layer, edges = contenders.build(job["contender"], problem, plan)
    training = timed(device.training(layer), edges, x, tables, cotangent)
    jax.clear_caches()
    layer, edges = contenders.build(job["contender"], problem, plan)
    return {"forward": timed(layer, edges, x, tables), "training": training}


def main() -> None:
    """Takes a job from stdin; see `harness.worker.records`."""
    jax.config.update("jax_enable_compilation_cache", False)
    job = json.load(sys.stdin)
    print("RECORD " + json.dumps({"name": job["contender"], "record": measure(job)}), flush=True)


if __name__ == "__main__":
    main()
