"""The table of goals: what is asked at least, what is aimed at, what was reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.goals import Goal, geomean
from relational_peers.problem import LAYERS
from relational_peers.report import paired

from .contenders import COMPILED, FORMS, HAND, PLAIN
from .problem import ATTENTION, MODELS, NEW

Cases = dict[str, dict[str, Any]]
STEP = "training"


def evaluate(cases: Cases) -> list[Goal]:
    """The goals from the records of a file."""
    hand = {model: _ratios(cases, "layer", model, HAND) for model in LAYERS}
    plain = {model: _ratios(cases, "new", model, PLAIN) for model in NEW}
    goals = [
        Goal("step: hand / compiled, geomean", 0.8, 1, _means(hand), higher=True),
        Goal("step: hand / compiled, worst graph", 0.8, 1, _worst(hand), higher=True),
    ]
    for model in LAYERS:
        values = _by_graph(cases, "ablation", model, _best_form)
        values["geomean"] = geomean(v for v in values.values() if v is not None)
        least = 1.3 if model == "rgcn" else 1.5
        goals.append(Goal(f"{model} step: none / best form", least, 4, values, higher=True))
    goals.append(Goal("step: plain / compiled, geomean", 5, 20, _means(plain), higher=True))
    for what, bounds in (("cold", (2, 0.5)), ("warm", (0.05, 0.05))):
        seconds = {m: _first(cases.get(f"first/{m}"), f"{what}_s") for m in MODELS}
        goals.append(Goal(f"first step, {what}", *bounds, seconds, unit=" s"))
    return goals


def coverage(cases: Cases) -> dict[str, tuple[int, int]]:
    """By contender of the new models: steps that ran, and that there are."""
    found: dict[str, list[bool]] = {}
    for record in _of(cases, "new"):
        for who, passes in record["contenders"].items():
            found.setdefault(who, []).append("seconds" in passes.get(STEP, {}))
    return {who: (sum(ran), len(ran)) for who, ran in found.items()}


def _of(cases: Cases, kind: str, model: str | None = None) -> list[dict[str, Any]]:
    """Records of a kind that were measured; attention with 8 heads."""

    def wanted(record: dict[str, Any]) -> bool:
        p = record.get("params", {})
        heads = 8 if p.get("model") in ATTENTION else 1
        same = p.get("kind") == kind and p.get("heads") == heads and "contenders" in record
        return same and model in (None, p["model"])

    return [record for record in cases.values() if wanted(record)]


def _by_graph(
    cases: Cases, kind: str, model: str, value: Callable[[Any], float | None]
) -> dict[str, float | None]:
    return {r["params"]["graph"]: value(r) for r in _of(cases, kind, model)}


def _ratios(cases: Cases, kind: str, model: str, contender: str) -> dict[str, float | None]:
    """Its time / the compiled layer's, by graph."""
    return _by_graph(cases, kind, model, lambda r: paired(r, contender, COMPILED, STEP))


def _means(found: dict[str, dict[str, float | None]]) -> dict[str, float | None]:
    """Geometric mean over the graphs where both ran, by model."""
    return {
        model: geomean(v for v in values.values() if v is not None)
        for model, values in found.items()
    }


def _worst(found: dict[str, dict[str, float | None]]) -> dict[str, float | None]:
    """The least, named by model and graph."""
    worst: dict[str, float | None] = {}
    for model, values in found.items():
        ran = {graph: v for graph, v in values.items() if v is not None}
        graph = min(ran, key=lambda graph, ran=ran: ran[graph]) if ran else None
        worst[f"{model}/{graph}" if graph else model] = ran[graph] if graph else None
    return worst


def _best_form(record: dict[str, Any]) -> float | None:
    base, *forms = FORMS
    found = [paired(record, base, form, STEP) for form in forms]
    return max((v for v in found if v is not None), default=None)


def _first(record: dict[str, Any] | None, key: str) -> float | None:
    passes = ((record or {}).get("contenders") or {}).get(COMPILED, {})
    return passes.get(STEP, {}).get(key)
