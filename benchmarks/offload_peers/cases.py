"""The list of cases: a model and the names that leave the device."""

from __future__ import annotations

import dataclasses
from typing import Any

from .model import MODELS, NAMES

MOVED = {
    "up": ("up",),
    "up,qkv": ("up", "qkv"),
    "all": tuple(NAMES),
    "input": ("input",),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the report.

    Args:
        model: of `model.MODELS`.
        moved: of `MOVED`.
        rest: the place of the names that do not move: "keep" or "recompute".
        tier: 0 is the core table.
    """

    model: str
    moved: str
    rest: str = "keep"
    tier: int = 0
    kind: str = "step"

    @property
    def name(self) -> str:
        return f"{self.model}/{self.moved}/{self.rest}"

    @property
    def seconds(self) -> float:
        """About what it takes on an H200."""
        return 90

    @property
    def names(self) -> tuple[str, ...]:
        return MOVED[self.moved]

    def params(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def all_cases() -> list[Case]:
    """The core first."""
    core = [Case("gpt4096", moved) for moved in ("up", "up,qkv", "all")]
    more = [Case("gpt4096", "input", "recompute", 1)]
    wide = [Case(m, moved, "keep", 2) for m in MODELS if m != "gpt4096" for moved in MOVED]
    return [*core, *more, *wide]
