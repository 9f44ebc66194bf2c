"""The list of cases, the most important first."""

from __future__ import annotations

import dataclasses
from typing import Any

from .problem import LAYERS, OPERATIONS
from .shapes import EIGHT, SHAPES

# The core's graphs in the order in which a short budget should reach them.
CORE = ("fb15k", "mag", "aifb", "am", "biokg", "bgs", "mutag", "wikikg2")
ABLATED = ("fb15k", "mag", "am", "biokg", "aifb")
# bf16 in the core table: against our own f32.
HALF = {"rgcn/mag/bf16/d64/h1": 0, "rgat/mag/bf16/d64/h8": 1, "hgt/mag/bf16/d64/h8": 1}
CPU_GRAPHS = ("wordnet", "aifb", "mutag")


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the report.

    Args:
        kind: "layer", "plan" (building it, and its bytes) or "pyg" (measured by another process).
        graph: name of the graph.
        tier: 0 and 1 are the core table; 1 runs only if the budget then still holds all of 0.
        model, dtype, features, heads: as in `problem.Problem`.
        precision: None for the default, or "highest".
        compaction, reorder: of the ablation; None for what `RelGraph` and the layer choose.
        rivals: whether others than jaxdirect and its reference take part.
    """

    kind: str
    graph: str
    tier: int
    model: str = ""
    dtype: str = "f32"
    features: int = 64
    heads: int = 1
    precision: str | None = None
    compaction: str | None = None
    reorder: bool | None = None
    rivals: bool = True

    @property
    def name(self) -> str:
        """Path-like; `--only` matches it."""
        if self.kind == "plan":
            return f"plan/{self.graph}"
        parts = [self.model, self.graph, self.dtype, f"d{self.features}", f"h{self.heads}"]
        parts += [p for p in (self.precision, self.compaction) if p]
        if self.reorder is not None:
            parts.append("reorder" if self.reorder else "in-order")
        return "/".join(["pyg", *parts] if self.kind == "pyg" else parts)

    @property
    def seconds(self) -> float:
        """About what it takes on an H200 with 16 host cores; `--budget` counts with it."""
        shape = SHAPES.get(self.graph)
        millions = shape.edges / 1e6 if shape else 0.5
        if self.kind == "plan":
            return 1 + 0.4 * millions
        if self.kind == "pyg":
            return 2 + 0.25 * millions
        return (6 if self.rivals else 4) + 0.2 * millions

    @property
    def ablation(self) -> bool:
        return self.compaction is not None

    def params(self) -> dict[str, Any]:
        """All that tells it from others, for its record."""
        return dataclasses.asdict(self)


def gpu_cases() -> list[Case]:
    """Every model, graph, type and width; the ablations."""
    cases = []
    for graph in CORE:
        cases.append(Case("plan", graph, 0))
        for model, heads, tier in (
            ("rgcn", 1, 0),
            ("rgat", 8, 0),
            ("hgt", 8, 0),
            ("rgat", 1, 1),
            ("hgt", 1, 1),
        ):
            cases.append(Case("layer", graph, tier, model, heads=heads))
            cases.append(Case("pyg", graph, tier, model, heads=heads))
            for features, dtype in ((64, "bf16"), (128, "f32"), (128, "bf16")):
                case = Case("layer", graph, 2, model, dtype, features, heads)
                if case.name in HALF:
                    case = dataclasses.replace(case, tier=HALF[case.name])
                cases.append(case)
                cases.append(Case("pyg", graph, 2, model, dtype, features, heads))
            options = {"precision": "highest", "rivals": False}
            cases.append(Case("layer", graph, 2, model, heads=heads, **options))
    for graph in ABLATED:
        for model in LAYERS:
            for compaction in ("none", "src", "min"):
                for reorder in (None,) if model == "rgcn" else (False, True):
                    heads = 1 if model == "rgcn" else 8
                    options = {"compaction": compaction, "reorder": reorder, "rivals": False}
                    cases.append(Case("layer", graph, 2, model, heads=heads, **options))
    return ordered(cases)


def cpu_cases(graphs: tuple[str, ...] = CPU_GRAPHS) -> list[Case]:
    """Layers and operations on small graphs."""
    cases = []
    for graph in graphs:
        cases.append(Case("plan", graph, 0))
        for model in (*LAYERS, *OPERATIONS):
            heads = 1 if model in ("rgcn", "typed_linear") else 8
            cases.append(Case("layer", graph, 0, model, heads=heads))
            if model in LAYERS:
                cases.append(Case("pyg", graph, 0, model, heads=heads))
    return ordered(cases)


def for_graphs(cases: list[Case], names: tuple[str, ...]) -> list[Case]:
    """The cases of some graphs; a graph that has none gets those of the first graph."""
    known = {c.graph for c in cases}
    template = [c for c in cases if c.graph == cases[0].graph]
    found = []
    for name in names:
        own = [c for c in cases if c.graph == name]
        found += own if name in known else [dataclasses.replace(c, graph=name) for c in template]
    return ordered(found)


def ordered(cases: list[Case]) -> list[Case]:
    """PyG first, since it has a process of its own; then graph by graph, the core before the rest.

    The order within the core follows the graphs and not the tiers: each plan is built once.
    """
    place = {name: i for i, name in enumerate(dict.fromkeys(c.graph for c in cases))}
    plan = {"plan": 0, "layer": 1}

    def key(case: Case) -> tuple:
        rest = case.tier == 2
        if case.kind == "pyg":
            return rest, 0, case.tier, place[case.graph]
        return rest, 1, place[case.graph], plan[case.kind], case.tier, case.compaction or ""

    return sorted(cases, key=key)


__all__ = ["CORE", "EIGHT", "Case", "cpu_cases", "for_graphs", "gpu_cases", "ordered"]
