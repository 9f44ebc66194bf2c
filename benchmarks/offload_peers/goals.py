"""The table of goals: what is asked at least, what is aimed at, what was reached."""

from __future__ import annotations

from typing import Any

from harness.goals import Goal

from .report import OURS, over

STEP = {"up": (1.025, 1.01), "up,qkv": (1.12, 1.10), "all": (1.29, 1.28)}


def evaluate(cases: dict[str, dict[str, Any]]) -> list[Goal]:
    """The goals from the records of a file."""
    goals = []
    for moved, (least, aim) in STEP.items():
        record = cases.get(f"gpt4096/{moved}/keep", {})
        values = {"gpt4096": over(record, OURS)}
        goals.append(Goal(f"{moved} to host: step over keep's", least, aim, values))
    bits = {n: float(r["same_bits"]) for n, r in cases.items() if r.get("same_bits") is not None}
    goals.append(Goal("the same bits as saving the same names", 1, 1, bits, higher=True, unit=""))
    return goals
