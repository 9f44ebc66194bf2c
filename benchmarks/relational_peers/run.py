"""Runs a case: a plan, or a layer with its rivals."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from . import device, graphs, ours, peers_jax
from .cases import Case
from .problem import LAYERS, Problem

OURS, REFERENCE = "jaxdirect", "reference"


@dataclasses.dataclass
class Context:
    """State of one benchmark process.

    Args:
        platform: "cuda" or "cpu".
        rivals: whether plain-JAX rivals take part.
        without: contenders to leave out.
        again: the only contenders to measure, or none to measure all.
        rounds: of each timing, or None for the platform's number.
    """

    platform: str
    rivals: bool
    without: set[str]
    again: set[str]
    rounds: int | None = None
    _graph: graphs.Graph | None = None
    _plan: tuple[str, Any, dict[str, Any]] | None = None

    def takes(self, name: str) -> bool:
        """Whether a contender takes part."""
        return name not in self.without and (not self.again or name in self.again)

    def graph(self, name: str) -> graphs.Graph:
        """The graph; the last one is kept."""
        if self._graph is None or self._graph.name != name:
            self._graph = self._plan = None
            gc.collect()
            self._graph = graphs.make(name)
        return self._graph

    def plan(self, name: str, compaction: str) -> tuple[Any, dict[str, Any]]:
        """The plan and what it costs; the last one is kept."""
        graph = self.graph(name)
        if self._plan is None or self._plan[0] != compaction:
            self._plan = None
            gc.collect()
            self._plan = (compaction, *ours.build_plan(graph, compaction))
        return self._plan[1:]


def plan_case(ctx: Context, case: Case) -> dict[str, Any]:
    """Builds a plan; what the graph is, and seconds and bytes of its plan."""
    begin = time.perf_counter()
    graph = ctx.graph(case.graph)
    made = time.perf_counter() - begin
    _, cost = ctx.plan(case.graph, "min")
    return {"graph": graph.describe() | {"make_s": made}, **cost}


def layer_case(ctx: Context, case: Case) -> dict[str, Any]:
    """Measures every contender of a layer, forward and training."""
    graph = ctx.graph(case.graph)
    plan, cost = ctx.plan(case.graph, case.compaction or "min")
    problem = Problem(case.model, graph, case.dtype, case.features, case.heads)
    weights, cotangent = problem.weights(), problem.cotangent()
    xs = problem.inputs()
    programs: list[device.Program] = []
    skipped: dict[str, str] = {}

    def add(name: str, layer: Callable, edges: Any) -> None:
        common = {"edges": edges, "xs": xs, "precision": case.precision}
        programs.append(
            device.Program(f"{name}/forward", layer, rest=(weights,), **common),
        )
        step = device.training(layer)
        programs.append(
            device.Program(f"{name}/training", step, rest=(weights, cotangent), **common)
        )

    for name, implementation in ((OURS, "native"), (REFERENCE, "reference")):
        if ctx.takes(name) and not (case.ablation and name == REFERENCE):
            add(name, ours.layer(problem, implementation, case.precision, case.reorder), plan)
    for kind in peers_jax.KINDS if ctx.rivals and case.rivals and case.model in LAYERS else ():
        if not ctx.takes(kind):
            continue
        if (why := peers_jax.refuse(kind, problem)) is not None:
            skipped[kind] = why
        else:
            add(kind, *peers_jax.build(kind, problem))
    count = ctx.rounds or (5 if ctx.platform == "cuda" else 21)
    device.measure(programs, repeat_short=ctx.platform == "cuda", count=count)
    record: dict[str, Any] = {
        "plan_bytes": cost["plan_bytes"],
        "floors": problem.floors(),
        "memory_beside_arguments": problem.memory(),
        "contenders": contenders(programs) | {k: refused(v) for k, v in skipped.items()},
        "difference": differences(programs),
    }
    for program in programs:
        program.drop()
    return record


def refused(why: str) -> dict[str, Any]:
    """The passes of a contender that was not tried."""
    key = "oom" if why.startswith("OOM") else "skipped"
    return {"forward": {key: why}, "training": {key: why}}


def contenders(programs: list[device.Program]) -> dict[str, Any]:
    """Records by contender and pass; `backward` is the training step less the forward pass."""
    found: dict[str, Any] = {}
    for program in programs:
        name, what = program.name.split("/")
        found.setdefault(name, {})[what] = program.record
    return found


def differences(programs: list[device.Program]) -> dict[str, float]:
    """Largest difference of each contender's forward pass to the reference's, over its maximum."""
    ready = {
        p.name.removesuffix("/forward"): p
        for p in programs
        if p.name.endswith("/forward") and "seconds" in p.record
    }
    if REFERENCE not in ready:
        return {}
    want = ready[REFERENCE].call().astype(jnp.float32)
    most = jnp.maximum(jnp.abs(want).max(), 1e-30)
    return {
        name: float(jnp.abs(program.call().astype(jnp.float32) - want).max() / most)
        for name, program in ready.items()
        if name != REFERENCE
    }
