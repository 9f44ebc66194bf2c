"""The list of cases: a model, and by which policies its steps are compared."""

from __future__ import annotations

import dataclasses
from typing import Any

from .model import MODELS, NAMES, Config, value_bytes


@dataclasses.dataclass(frozen=True)
class Move:
    """What leaves the device, and what the other names do.

    Args:
        names: those that move.
        rest: the place of the others, "keep" or "recompute".
        staging: device memory for values on their way, in units of what it is by default.
    """

    names: tuple[str, ...]
    rest: str = "keep"
    staging: int = 1

    @property
    def kept(self) -> tuple[str, ...]:
        return tuple(n for n in NAMES if n not in self.names) if self.rest == "keep" else ()

    @property
    def saved(self) -> tuple[str, ...]:
        """All that is not computed again."""
        return (*self.names, *self.kept)

    def staging_bytes(self, config: Config) -> int:
        """For `offload.configure`: 0, its default, or a multiple of two of the largest values."""
        if self.staging == 1:
            return 0
        sizes = value_bytes(config)
        return self.staging * 2 * max(sizes[name] for name in self.names)


MOVES = {
    "up": Move(("up",)),
    "up+qkv": Move(("up", "qkv")),
    "up+proj": Move(("up", "proj")),
    "all": Move(tuple(NAMES)),
    "up+qkv 4x": Move(("up", "qkv"), staging=4),
    "all 4x": Move(tuple(NAMES), staging=4),
    "input": Move(("input",), "recompute"),
}
RIVALS = ("up", "up+qkv", "all")  # those that JAX's own offload is measured with


# About what a case of each kind takes on an H200.
SECONDS = {"policies": 400, "budgets": 280, "batch": 310, "rate": 90, "torch": 40}


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the report.

    Args:
        model: of `model.MODELS`, or "disk".
        tier: 0 is the core table.
        kind: of `SECONDS`.
    """

    model: str
    tier: int = 2
    kind: str = "policies"

    @property
    def name(self) -> str:
        return f"torch/{self.model}" if self.kind == "torch" else f"{self.model}/{self.kind}"

    @property
    def seconds(self) -> float:
        return SECONDS[self.kind]

    def params(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def all_cases() -> list[Case]:
    """The core first."""
    return [
        *(Case(model, tier=0 if model == "gpt4096" else 2) for model in MODELS),
        Case("gpt4096", kind="budgets"),
        Case("wide8192", kind="batch"),
        Case("disk", kind="rate"),
        Case("gpt4096", kind="torch"),
    ]
