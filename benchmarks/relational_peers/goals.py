"""The table of goals: what is asked at least, what is aimed at, what was reached."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from harness.goals import Goal, geomean

from .problem import LAYERS
from .report import OURS, REFERENCE, paired, rivals, seconds_of
from .shapes import EIGHT

Cases = dict[str, dict[str, Any]]
LARGE = ("bgs", "biokg", "am", "mag", "wikikg2")


def evaluate(cases: Cases) -> list[Goal]:
    """The goals for a GPU from the records of a file."""
    goals = [
        Goal(f"rgcn {p} / floor", *bounds, _each(cases, "rgcn", 1, LARGE, _floor(p)))
        for p, bounds in (("forward", (2, 1.4)), ("backward", (2.5, 1.7)))
    ]
    for model in ("rgat", "hgt"):
        for which, bounds in (("forward", (3, 2)), ("training", (5, 3))):
            values = _each(cases, model, 8, EIGHT, _floor(which))
            goals.append(Goal(f"{model}, 8 heads, {which} / floor", *bounds, values))
    for graph, bounds in (("fb15k", (150, 80)), ("aifb", (60, 30))):
        micro = lambda r: _scaled(seconds_of(r, OURS, "forward"), 1e6)  # noqa: E731
        goals.append(
            Goal("rgcn forward", *bounds, _each(cases, "rgcn", 1, (graph,), micro), unit=" us")
        )
    for model, heads in (("rgcn", 1), ("rgat", 8), ("hgt", 8)):
        values = _each(cases, model, heads, EIGHT, _memory)
        goals.append(Goal(f"{model} training: peak / memory goal", 1.5, 1.5, values))
    for what in ("forward", "training"):
        best = _by_model(cases, lambda r, p, w=what: _against_best(r, p, w))
        goals.append(Goal(f"{what}: best peer / ours, geomean", 10, 30, best, higher=True))
    for what in ("forward", "training"):
        own = _by_model(cases, lambda r, _, w=what: paired(r, REFERENCE, OURS, w))
        goals.append(Goal(f"{what}: own reference / ours, geomean", 3, 6, own, higher=True))
    for what in ("forward", "training"):
        half = {m: _half(cases, m, what) for m in LAYERS}
        goals.append(Goal(f"{what} on mag: f32 / bf16", 1.5, 1.9, half, higher=True))
    return goals


def coverage(cases: Cases) -> dict[str, tuple[int, int]]:
    """By contender: training steps of the core table that ran, and that were tried."""
    found: dict[str, list[bool]] = {}
    for name, record in cases.items():
        if "/f32/d64/" in name and name.rsplit("/", 1)[1] in ("h1", "h8"):
            for contender, passes in (record.get("contenders") or {}).items():
                tried = found.setdefault(contender, [])
                if "skipped" not in passes.get("training", {}):
                    tried.append("seconds" in passes.get("training", {}))
    return {contender: (sum(ran), len(ran)) for contender, ran in found.items()}


def evaluate_cpu(cases: Cases) -> list[Goal]:
    """The goals for two cores: no operation slower than its reference, training of RGCN 3x."""
    goals = []
    for what in ("forward", "training"):
        values = {k: paired(r, REFERENCE, OURS, what) for k, r in cases.items()}
        values = {k: v for k, v in values.items() if v is not None}
        goals.append(Goal(f"{what}: reference / ours", 0.97, 1, values, higher=True))
    record = cases.get("rgcn/wordnet/f32/d64/h1")
    value = {"wordnet": paired(record, REFERENCE, OURS, "training")}
    return [*goals, Goal("rgcn training: reference / ours", 3, 3, value, higher=True)]


def _name(model: str, graph: str, heads: int, dtype: str = "f32") -> str:
    return f"{model}/{graph}/{dtype}/d64/h{heads}"


def _each(
    cases: Cases, model: str, heads: int, graphs: Iterable[str], value: Callable[[Any], Any]
) -> dict[str, float | None]:
    found = {g: cases.get(_name(model, g, heads)) for g in graphs}
    return {g: None if r is None or "contenders" not in r else value(r) for g, r in found.items()}


def _floor(which: str) -> Callable[[Any], float | None]:
    return lambda r: r["contenders"].get(OURS, {}).get(which, {}).get("times_floor")


def _memory(record: dict[str, Any]) -> float | None:
    """Peak over goal; infinite if the step did not run."""
    step = record["contenders"].get(OURS, {}).get("training")
    if step is None:
        return None
    return step["times_memory"] if "times_memory" in step and "seconds" in step else math.inf


def _against_best(record: Any, pyg: Any, what: str) -> float | None:
    ours, found = seconds_of(record, OURS, what), rivals(record, pyg, what)
    return min(found.values()) / ours if ours and found else None


def _by_model(cases: Cases, ratio: Callable[[Any, Any], float | None]) -> dict[str, float | None]:
    """Geometric mean over graphs and heads, for each model and for all."""
    found: dict[str, list[float]] = {m: [] for m in LAYERS}
    for model in LAYERS:
        for graph in EIGHT:
            for heads in (1, 8):
                name = _name(model, graph, heads)
                value = ratio(cases.get(name), cases.get(f"pyg/{name}"))
                found[model] += [] if value is None else [value]
    means = {model: geomean(values) for model, values in found.items()}
    return means | {"all": geomean(v for values in found.values() for v in values)}


def _half(cases: Cases, model: str, what: str) -> float | None:
    heads = 1 if model == "rgcn" else 8
    full, half = (
        seconds_of(cases.get(_name(model, "mag", heads, t)), OURS, what) for t in ("f32", "bf16")
    )
    return full / half if full and half else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
