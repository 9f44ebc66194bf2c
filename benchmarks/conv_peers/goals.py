"""The table of goals: what is asked at least, what is aimed at, what was reached."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from harness.goals import Goal, geomean

from .problem import MODES, PASSES
from .report import AUTO, TORCH, XLA, best_ratio, contenders, ratio
from .shapes import BODY, STEMS, TWELVE

Cases = dict[str, dict[str, Any]]
PEERS = (*XLA, TORCH)

# (least, aim) by mode, of the geometric mean of the fastest peer's time over ours.
GEOMEANS = (
    ("stems", STEMS, "forward", {"fp32": (4, 6), "tf32": (3, 5), "bf16": (5, 12)}),
    ("stems", STEMS, "wgrad", {"fp32": (4, 6), "tf32": (3, 5), "bf16": (5, 12)}),
    ("body", BODY, "forward", {"fp32": (1.8, 2.8), "tf32": (1.2, 1.5), "bf16": (1.3, 1.7)}),
    ("body", BODY, "dgrad", {"fp32": (1.5, 2.3), "tf32": (1.2, 1.8), "bf16": (1.3, 2)}),
    ("body", BODY, "wgrad", {"fp32": (1.5, 2.3), "tf32": (1.5, 2.5), "bf16": (1.3, 2)}),
)


def evaluate(cases: Cases) -> list[Goal]:
    """The goals for a GPU from the records of a file."""
    goals = []
    for title, layers, what, bounds in GEOMEANS:
        for mode in MODES:
            names = [f"{layer}/b128/valid/{mode}/{what}" for layer in layers]
            found = _values(cases, names, lambda f: best_ratio(f, PEERS))
            key = f"geomean of {len(found)} of {len(layers)}"
            text = f"{title}, {what}, {mode}: best peer / ours"
            goals.append(Goal(text, *bounds[mode], {key: geomean(found.values())}, higher=True))
    after = dict(_worst(cases, mode) for mode in MODES)
    text = "any case that dispatch gives to ours: XLA / auto, worst"
    goals.append(Goal(text, 0.97, 1, after, higher=True))
    space = {what: _workspace(cases, what) for what in ("forward", "dgrad")}
    goals.append(Goal("workspace", 0, 0, space, unit=" bytes"))
    thin = {
        name: _value(cases, f"{name}/bf16/training", lambda f: best_ratio(f, XLA))
        for name in ("depthwise7x7/b128/same", *(f"causal4/b{n}/causal" for n in (1, 2, 4, 8)))
    }
    goals.append(Goal("depthwise and causal, training: XLA / ours", 2, 5, thin, higher=True))
    network = {
        layout: _value(
            cases,
            "resnet50/b128/same/bf16/training",
            lambda f, k=layout: ratio(f, f"xla_{k}", f"jaxdirect_{k}"),
        )
        for layout in ("nhwc", "nchw")
    }
    goals.append(Goal("ResNet-50 step: XLA / ours", 1, 1.2, network, higher=True))
    return goals


def evaluate_cpu(cases: Cases) -> list[Goal]:
    """The goals for two cores: no slower than XLA, over the twelve and in each of them."""
    goals = []
    for what in PASSES:
        names = [f"{layer.name}/b8/valid/fp32/{what}" for layer in TWELVE]
        found = _values(cases, names, lambda f: ratio(f, XLA[0], AUTO))
        key = f"geomean of {len(found)} of {len(names)}"
        goals.append(Goal(f"{what}: XLA / auto", 1, 1, {key: geomean(found.values())}, higher=True))
        each = {name.split("/")[0]: value for name, value in found.items()}
        goals.append(Goal(f"{what}: XLA / auto, each", 0.97, 1, each, higher=True))
    return goals


def _found(cases: Cases, name: str) -> dict[str, Any]:
    return contenders(cases.get(name), cases.get(f"torch/{name}"))


def _value(cases: Cases, name: str, value: Callable[[Any], float | None]) -> float | None:
    return value(_found(cases, name))


def _values(
    cases: Cases, names: Iterable[str], value: Callable[[Any], float | None]
) -> dict[str, float]:
    """By name, of the cases that have a value."""
    return {n: v for n in names if (v := _value(cases, n, value)) is not None}


def _layers(cases: Cases) -> list[str]:
    return [n for n, r in cases.items() if "floors" in r and not n.startswith("torch/")]


def _worst(cases: Cases, mode: str) -> tuple[str, float | None]:
    """Which case after dispatch is the worst against XLA's convolution of the same call.

    What dispatch leaves to XLA is the same program twice, and its ratio noise.
    """
    names = [n for n in _layers(cases) if f"/{mode}/" in n and _dispatched(_found(cases, n))]
    found = _values(cases, names, lambda f: ratio(f, XLA[0], AUTO))
    if not found:
        return mode, None
    name = min(found, key=lambda n: found[n])
    return f"{mode}, {len(found)} cases ({name})", found[name]


def _dispatched(found: dict[str, Any]) -> bool:
    """Whether dispatch took a kernel of ours."""
    return found.get(AUTO, {}).get("native", 1) > 0


def _workspace(cases: Cases, what: str) -> float | None:
    """Most bytes that a pass of ours took beside its operands and results."""
    names = [n for n in _layers(cases) if n.endswith(f"/{what}")]
    found = _values(cases, names, lambda f: f.get("jaxdirect", {}).get("workspace_bytes"))
    return max(found.values(), default=None)
