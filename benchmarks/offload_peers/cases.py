"""The list of cases: a model, and by which policies its steps are compared."""

from __future__ import annotations

import dataclasses
from typing import Any

from .model import MODELS, NAMES


@dataclasses.dataclass(frozen=True)
class Move:
    """What leaves the device, and what the other names do.

    Args:
        names: those that move.
        rest: the place of the others, "keep" or "recompute".
    """

    names: tuple[str, ...]
    rest: str = "keep"

    @property
    def kept(self) -> tuple[str, ...]:
        return tuple(n for n in NAMES if n not in self.names) if self.rest == "keep" else ()

    @property
    def saved(self) -> tuple[str, ...]:
        """All that is not computed again."""
        return (*self.names, *self.kept)


MOVES = {
    "up": Move(("up",)),
    "up+qkv": Move(("up", "qkv")),
    "all": Move(tuple(NAMES)),
    "input": Move(("input",), "recompute"),
}
RIVALS = ("up", "up+qkv", "all")  # those that JAX's own offload is measured with


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the report.

    Args:
        model: of `model.MODELS`.
        tier: 0 is the core table.
    """

    model: str
    tier: int = 0
    kind: str = "policies"

    @property
    def name(self) -> str:
        return f"{self.model}/{self.kind}"

    @property
    def seconds(self) -> float:
        """About what it takes on an H200."""
        return 150

    def params(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def all_cases() -> list[Case]:
    """The core first."""
    return [Case(model, tier=0 if model == "gpt4096" else 2) for model in MODELS]
