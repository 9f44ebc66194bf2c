"""jaxdirect's side: the plan of a graph, the layers, and the reference over the same plan."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .graphs import Graph
from .problem import Problem


def missing() -> str | None:
    """Why jaxdirect.relational cannot be measured, or None."""
    try:
        from jaxdirect import relational
    except ImportError as error:
        return str(error)
    names = ("RelGraph", "rgcn_conv", "rgat_conv", "hgt_conv")
    absent = [name for name in names if not hasattr(relational, name)]
    return f"jaxdirect.relational has no {', '.join(absent)}" if absent else None


def build_plan(graph: Graph, compaction: str = "min") -> tuple[Any, dict[str, Any]]:
    """The plan of a graph on the device, and its cost: seconds on the host, bytes, rows."""
    from jaxdirect import relational

    begin = time.perf_counter()
    plan = relational.RelGraph.from_edges(
        graph.src,
        graph.dst,
        graph.etype,
        num_nodes=graph.nodes,
        num_relations=graph.relations,
        ntype=graph.ntype,
        compaction=compaction,
    )
    jax.block_until_ready(jax.tree.leaves(plan))
    seconds = time.perf_counter() - begin
    plan = jax.block_until_ready(jax.device_put(plan))
    nbytes = sum(leaf.nbytes for leaf in jax.tree.leaves(plan))
    cost = {
        "compaction": compaction,
        "build_s": seconds,
        "edges_per_s": graph.edges / seconds,
        "plan_bytes": nbytes,
        "plan_bytes_per_edge": nbytes / graph.edges,
    }
    return plan, cost


def layer(
    problem: Problem, implementation: str, precision: str | None, reorder: bool | None
) -> Callable[[Any, jax.Array, dict[str, jax.Array]], jax.Array]:
    """f(plan, x, weights) -> y of a layer or operation."""
    from jaxdirect import relational

    options: dict[str, Any] = {"implementation": implementation}
    if precision is not None:
        options["precision"] = precision
    model = problem.model
    if model == "typed_linear":
        # Types as a model meets them: in the order of the destinations, not sorted.
        order = np.argsort(problem.graph.dst, kind="stable")
        types = jnp.asarray(problem.graph.etype[order])
        return lambda plan, x, w: relational.typed_linear(x, w["weight"], types, **options)
    if model in ("aggregate", "edge_softmax"):
        options.pop("precision", None)
        if model == "edge_softmax":
            return lambda plan, x, w: relational.edge_softmax(plan, x, **options)
        return lambda plan, x, w: relational.aggregate(plan, x, w["edge_weight"], **options)
    convolution = getattr(relational, f"{model}_conv")
    if reorder is not None:
        options["reorder"] = reorder
    return lambda plan, x, w: convolution(plan, x, **w, **options)
