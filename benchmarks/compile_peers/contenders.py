"""Who takes part: a layer f(edges, x, tables) by name, and the oracle."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from relational_peers.peers_jax import LIMIT_BYTES

from . import models, plain
from .problem import EDGE_FEATURES, LAYERS, LayerProblem

COMPILED, HAND, PLAIN, LOWERED, REFERENCE = "compiled", "hand", "plain", "lowered", "reference"
# Compaction and reordering.
FORMS = {"none": (False, False), "C": (True, False), "R": (False, True), "C+R": (True, True)}

Built = tuple[Callable, Any]


def build(name: str, problem: LayerProblem, plan: Any) -> Built:
    """A layer f(edges, x, tables) and its `edges`.

    Args:
        name: one of the constants above or of `FORMS`.
        problem: the layer and its graph.
        plan: `RelGraph` of the graph.
    """
    if name == PLAIN:
        return plain.build(problem)
    if name == HAND:
        return _hand(problem, plan, implementation="native")
    if name == REFERENCE:
        return _compiled(problem, plan, implementation="reference")
    if name == LOWERED:
        return _compiled(problem, plan, lower="jax")
    return _compiled(problem, plan, *FORMS.get(name, (True, True)), implementation="native")


def oracle(problem: LayerProblem, plan: Any) -> Built:
    """Plain-JAX operations in full float32; of the layer by hand where there is one."""
    make = _hand if problem.model in LAYERS else _compiled
    return make(problem, plan, implementation="reference", precision="highest")


def refuse(name: str, problem: LayerProblem, platform: str) -> str | None:
    """Why a contender is not even tried, or None.

    A GPU says when its memory is spent; a CPU's process would be killed.
    """
    size, limit = _largest_bytes(name, problem), LIMIT_BYTES
    if platform == "cpu":
        limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 16
    return f"OOM (estimated {size / 2**30:.1f} GiB)" if size > limit else None


def _largest_bytes(name: str, problem: LayerProblem) -> int:
    """Bytes of the weights of every edge, where a contender has them; else 0."""
    of_edges = (PLAIN, LOWERED, "none", "C") if problem.model == "hgt" else (PLAIN, LOWERED)
    if name not in of_edges:
        return 0
    graph, d, itemsize = problem.graph, problem.features, 4
    width = {"compgcn": 1, "transformer": EDGE_FEATURES}.get(problem.model, d)
    found = graph.edges * width * d
    if name == LOWERED and problem.model == "transformer":  # a weight of its type for each node
        found = max(found, graph.nodes * d * d)
    return found * itemsize


def _compiled(
    problem: LayerProblem,
    plan: Any,
    compaction: bool = True,
    reorder: bool = True,
    lower: str | None = None,
    **options: Any,
) -> Built:
    from jaxdirect import relational

    function = getattr(models, problem.model)
    made = relational.compile(function, compaction=compaction, reorder=reorder)
    made = made if lower is None else made.lower(lower)

    def layer(edges, x, tables):
        plan, of_edges = edges
        return made(plan, nodes={"x": x}, edges=of_edges, **tables, **options)

    return layer, (plan, problem.edge_table())


def _hand(problem: LayerProblem, plan: Any, **options: Any) -> Built:
    from jaxdirect import relational

    def layer(plan, x, tables):
        rel = tables["relations"]
        if problem.model == "rgcn":
            root = tables["shared"]["root"]
            return relational.rgcn_conv(plan, x, rel["weight"], root_weight=root, **options)
        if problem.model == "rgat":
            return relational.rgat_conv(plan, x, rel["weight"], rel["a"], rel["b"], **options)
        typed = (tables["types"][name] for name in "kqv")
        return relational.hgt_conv(plan, x, *typed, rel["a"], rel["m"], rel["p"], **options)

    return layer, plan
