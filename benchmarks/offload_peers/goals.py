"""The table of goals: what is asked at least, what is aimed at, what was reached."""

from __future__ import annotations

from typing import Any

from harness.goals import Goal

from .report import OURS, activations, fitting_peer, largest_multiple, over, saved

STEP = {"up": (1.025, 1.01), "up+qkv": (1.12, 1.10), "all": (1.29, 1.28)}
# SSDTrain's geometries: activation memory at no more than 1 % of the step.
PAPER = {"wide8192": (0.60, 0.45), "wide12288": (0.67, 0.55), "wide16384": (0.72, 0.65)}
PAPER_STEP = 1.01
AS_FAST = 0.98  # of keep's tokens a second

Records = dict[str, dict[str, Any]]


def evaluate(cases: Records) -> list[Goal]:
    """The goals from the records of a file."""
    core = cases.get("gpt4096/policies", {})
    goals = []
    for name, (least, aim) in STEP.items():
        values = {"": over(core, f"{OURS} {name}")}
        if (wide := over(core, f"{OURS} {name} 4x")) is not None:
            values["staging 4x"] = wide
        goals.append(Goal(f"{name} to host: step over keep's", least, aim, values))
    for model, (least, aim) in PAPER.items():
        values = {model: _least_memory(cases.get(f"{model}/policies", {}))}
        goals.append(Goal("activation memory at +1 % of the step", least, aim, values))
    goals += _planned(cases.get("gpt4096/budgets", {}))
    batches = {"wide8192": largest_multiple(cases.get("wide8192/batch", {}), AS_FAST)}
    what = "batch in keep's activation memory, as many tokens/s"
    goals.append(Goal(what, 1.8, 2.2, batches, higher=True))
    rate = {"": cases.get("disk/rate", {}).get("ratio")}
    goals.append(Goal("disk tier over plain writes and reads", 0.9, 0.9, rate, higher=True))
    ours = [
        (f"{n.split('/')[0]} {who}", r, who, found)
        for n, r in cases.items()
        for who, found in r.get("contenders", {}).items()
        if "same_bits" in found
    ]
    shares = {label: saved(r, who) for label, r, who, _ in ours if "input" not in who}
    goals.append(Goal("saved over moved bytes", 0.97, 0.99, shares, higher=True))
    bits = {label: float(found["same_bits"] or False) for label, *_, found in ours}
    goals.append(Goal("the same bits as saving the same names", 1, 1, bits, higher=True, unit=""))
    return goals


def _planned(record: dict[str, Any]) -> list[Goal]:
    """Of steps planned for shares of keep's activation memory."""
    values = {}
    for share in (30, 50, 70):
        name = f"planned {share}"
        peer = fitting_peer(record, name)
        values[f"{share} %"] = None if peer is None else over(record, peer, name)
    step = {"": record.get("contenders", {}).get("planned 53", {}).get("over_keep")}
    return [
        Goal("planned for 47 % less activation memory: step", 1.04, 1.01, step),
        Goal("planned: best peer that fits over ours", 1.0, 1.15, values, higher=True),
    ]


def _least_memory(record: dict[str, Any]) -> float | None:
    found = [
        activations(record, who)
        for who in record.get("contenders", {})
        if who.startswith(OURS) and (over(record, who) or 9) <= PAPER_STEP
    ]
    return min((f for f in found if f is not None), default=None)
