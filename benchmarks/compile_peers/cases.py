"""The list of cases, the most important first."""

from __future__ import annotations

import dataclasses
from typing import Any

from relational_peers.cases import CORE
from relational_peers.shapes import SHAPES

from .contenders import COMPILED, FORMS, HAND, LOWERED, PLAIN, REFERENCE
from .problem import ATTENTION, LAYERS, MODELS, NEW

CPU_GRAPHS = ("aifb", "mutag")
ABLATED = ("fb15k", "biokg")
ONE_HEAD = ("fb15k", "aifb")
KINDS = ("layer", "ablation", "new", "first")
FIRST = "tiny"  # the graph of the first calls


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the report: d = 64, float32.

    Args:
        kind: "layer" (by hand and compiled), "ablation" (of the passes), "new" (against plain
            JAX) or "first" (what the first call of a process takes).
        model: one of `problem.MODELS`.
        graph: its name.
        tier: 0 and 1 are the core table; 1 runs only if the budget then still holds all of 0.
        heads: of attention; 8, or 1 in cases apart.
    """

    kind: str
    model: str
    graph: str
    tier: int
    heads: int

    @property
    def name(self) -> str:
        """Path-like; `--only` matches it."""
        if self.kind == "first":
            return f"first/{self.model}"
        parts = [self.model, self.graph]
        parts += ["h1"] if self.model in ATTENTION and self.heads == 1 else []
        return "/".join([*parts, "ablation"] if self.kind == "ablation" else parts)

    @property
    def seconds(self) -> float:
        """About what it takes on an H200 with 16 host cores; `--budget` counts with it."""
        shape = SHAPES.get(self.graph)
        millions = shape.edges / 1e6 if shape else 0.5
        return {"layer": 8, "ablation": 10, "new": 12, "first": 25}[self.kind] + 0.4 * millions

    @property
    def contenders(self) -> tuple[str, ...]:
        """In the order of the row; ratios are to the first one's time."""
        if self.kind == "ablation":
            return tuple(FORMS)
        rival = HAND if self.model in LAYERS else PLAIN
        found = (COMPILED, rival)
        return (*found, LOWERED, REFERENCE) if self.kind == "new" else found

    @property
    def passes(self) -> tuple[str, ...]:
        return ("training",) if self.kind in ("ablation", "new") else ("forward", "training")

    def params(self) -> dict[str, Any]:
        """All that tells it from others, for its record."""
        return dataclasses.asdict(self)


def every(graphs: tuple[str, ...] | None, platform: str) -> list[Case]:
    """All cases; by kind, then graph by graph, so that each kind builds a plan once.

    Args:
        graphs: their names, or None for those that the platform can hold.
        platform: "cuda" or "cpu".
    """
    core = CORE if platform == "cuda" else CPU_GRAPHS
    ablated = ABLATED if graphs is None and platform == "cuda" else (graphs or core)
    cases = []
    for graph in graphs or core:
        for model in LAYERS:
            cases.append(Case("layer", model, graph, 0, _heads(model)))
            tier = 0 if graph in ablated else 2
            cases.append(Case("ablation", model, graph, tier, _heads(model)))
        cases += [Case("new", model, graph, 1, _heads(model)) for model in NEW]
        if graph in ONE_HEAD:
            for model in ATTENTION:
                cases.append(Case("layer" if model in LAYERS else "new", model, graph, 2, 1))
    cases += [Case("first", model, FIRST, 1, _heads(model)) for model in MODELS]
    return sorted(cases, key=lambda case: (case.tier == 2, KINDS.index(case.kind)))


def _heads(model: str) -> int:
    return 8 if model in ATTENTION else 1
