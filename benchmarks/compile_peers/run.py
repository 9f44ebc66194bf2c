"""Runs a case: a layer's contenders in turn, or first calls in processes of their own."""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
from harness import programs as harness
from harness import worker
from relational_peers import device, run

from . import contenders
from .cases import Case
from .problem import LayerProblem


def layer_case(ctx: run.Context, case: Case) -> dict[str, Any]:
    """Measures every contender of a layer."""
    plan, cost = ctx.plan(case.graph, "min")
    problem = LayerProblem(case.model, ctx.graph(case.graph), heads=case.heads)
    xs, tables, cotangent = problem.inputs(), problem.tables(), problem.cotangent()
    programs: list[device.Program] = []
    refused: dict[str, Any] = {}
    for name in filter(ctx.takes, case.contenders):
        if (why := contenders.refuse(name, problem, ctx.platform)) is not None:
            refused[name] = {p: v for p, v in run.refused(why).items() if p in case.passes}
            continue
        layer, edges = contenders.build(name, problem, plan)
        if "forward" in case.passes:
            programs.append(device.Program(f"{name}/forward", layer, edges, xs, (tables,)))
        step = device.training(layer)
        rest = (tables, cotangent)
        programs.append(device.Program(f"{name}/training", step, edges, xs, rest))
    count = ctx.rounds or (5 if ctx.platform == "cuda" else 21)
    device.measure(programs, repeat_short=ctx.platform == "cuda", count=count)
    layer, edges = contenders.oracle(problem, plan)
    step = device.training(layer)
    oracle = device.Program("oracle", step, edges, xs, (tables, cotangent), "highest")
    difference = harness.guarded(oracle, lambda: differences(programs, oracle)) or {}
    for program in (*programs, oracle):
        program.drop()
    return {
        "graph": ctx.graph(case.graph).describe(),
        "plan_bytes": cost["plan_bytes"],
        "contenders": run.contenders(programs) | refused,
        "difference": difference,
        "oracle": {k: v for k, v in oracle.record.items() if k in ("oom", "error", "peak_bytes")},
    }


def differences(
    programs: list[device.Program], oracle: device.Program
) -> dict[str, dict[str, float]]:
    """Of each contender's step: the largest difference to the oracle's, over the latter's maximum.

    `output`, and `gradients`: the worst of those of x and of the weights.
    """
    harness.compile_all([oracle])
    if oracle.failed():
        return {}
    wanted = jax.block_until_ready(oracle.call())
    found = {}
    for program in programs:
        name, what = program.name.split("/")
        if what == "training" and "seconds" in program.record:
            output, *gradients = jax.tree.leaves(jax.tree.map(_apart, program.call(), wanted))
            found[name] = {"output": float(output), "gradients": float(max(gradients))}
    return found


@jax.jit
def _apart(got: jax.Array, want: jax.Array) -> jax.Array:
    return jnp.abs(got - want).max() / jnp.maximum(jnp.abs(want).max(), 1e-30)


def first_case(ctx: run.Context, case: Case) -> dict[str, Any]:
    """The first call of each contender, in a process of its own."""
    found: dict[str, Any] = {}
    platforms = "cuda,cpu" if ctx.platform == "cuda" else "cpu"
    for name in filter(ctx.takes, case.contenders):
        job = {"contender": name} | case.params()
        # A note is that the process failed; its traceback is on the terminal.
        for _, record in worker.records(
            sys.executable, "compile_peers.first", job, name, platforms
        ):
            if isinstance(record, str):
                record = {which: {"error": record} for which in case.passes}
            found[name] = record
    return {"contenders": found}
