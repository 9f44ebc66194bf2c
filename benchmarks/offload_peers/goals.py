"""The table of goals: what is asked at least, what is aimed at, what was reached."""

from __future__ import annotations

from typing import Any

from harness.goals import Goal

from .report import OURS, activations, over, saved

STEP = {"up": (1.025, 1.01), "up+qkv": (1.12, 1.10), "all": (1.29, 1.28)}
# SSDTrain's geometries: activation memory at no more than 1 % of the step.
PAPER = {"wide8192": (0.60, 0.45), "wide12288": (0.67, 0.55), "wide16384": (0.72, 0.65)}
PAPER_STEP = 1.01

Records = dict[str, dict[str, Any]]


def evaluate(cases: Records) -> list[Goal]:
    """The goals from the records of a file."""
    core = cases.get("gpt4096/policies", {})
    goals = [
        Goal(f"{name} to host: step over keep's", least, aim, {"": over(core, f"{OURS} {name}")})
        for name, (least, aim) in STEP.items()
    ]
    for model, (least, aim) in PAPER.items():
        values = {model: _least_memory(cases.get(f"{model}/policies", {}))}
        goals.append(Goal("activation memory at +1 % of the step", least, aim, values))
    ours = [
        (f"{n.split('/')[0]} {who}", r, who, found)
        for n, r in cases.items()
        for who, found in r.get("contenders", {}).items()
        if "moved_bytes" in found
    ]
    shares = {label: saved(r, who) for label, r, who, _ in ours if "input" not in who}
    goals.append(Goal("saved over moved bytes", 0.97, 0.99, shares, higher=True))
    bits = {label: float(found["same_bits"]) for label, *_, found in ours}
    goals.append(Goal("the same bits as saving the same names", 1, 1, bits, higher=True, unit=""))
    return goals


def _least_memory(record: dict[str, Any]) -> float | None:
    found = [
        activations(record, who)
        for who in record.get("contenders", {})
        if who.startswith(OURS) and (over(record, who) or 9) <= PAPER_STEP
    ]
    return min((f for f in found if f is not None), default=None)
