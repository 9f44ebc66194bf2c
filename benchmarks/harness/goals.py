"""A line of a table of goals: what is asked at least, what is aimed at, what was reached."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Goal:
    """One line of the table.

    Args:
        what: the case in words.
        least, aim: bounds of what is asked and of what is aimed at.
        higher: whether more is better.
        values: what was reached by graph or model; None where it was not measured.
        unit: printed behind the numbers.
    """

    what: str
    least: float
    aim: float
    values: dict[str, float | None]
    higher: bool = False
    unit: str = "x"

    def verdict(self, value: float | None) -> str:
        """ "aim", "ok", "MISSED" or "-"."""
        if value is None:
            return "-"
        better = (lambda a, b: a >= b) if self.higher else (lambda a, b: a <= b)
        return "aim" if better(value, self.aim) else "ok" if better(value, self.least) else "MISSED"

    def record(self) -> dict[str, Any]:
        """For the JSON file."""
        found = [v for v in self.values.values() if v is not None]
        return {
            "what": self.what,
            "at_least": self.least,
            "aim": self.aim,
            "values": self.values,
            "verdicts": {k: self.verdict(v) for k, v in self.values.items()},
            "geomean": geomean(v for v in found if math.isfinite(v)),
        }

    def line(self) -> str:
        """For the terminal."""

        def number(value: float | None) -> str:
            if value is None:
                return "-"
            return f"{value:.3g}{self.unit}" if math.isfinite(value) else "did not run"

        sign = ">=" if self.higher else "<="
        cells = [f"{self.what:<52} {sign} {self.least:g} (aim {self.aim:g}){self.unit:<3}"]
        for key, value in self.values.items():
            verdict = self.verdict(value)
            mark = f" {verdict}" if verdict in ("MISSED", "aim") else ""
            cells.append(f"{key} {number(value)}{mark}")
        return " | ".join(cells)


def geomean(values: Iterable[float]) -> float | None:
    """Geometric mean; None of nothing."""
    logs = [math.log(v) for v in values if v > 0]
    return math.exp(sum(logs) / len(logs)) if logs else None
