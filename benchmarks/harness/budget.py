"""Which case may still start within a budget of seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Planned(Protocol):
    """A case that knows how long it takes, and how important it is (0 the most)."""

    @property
    def seconds(self) -> float: ...

    @property
    def tier(self) -> int: ...


def fits(case: Planned, later: Sequence[Planned], left_s: float) -> bool:
    """Whether a case may start with that many seconds left.

    One that is less important than some that come later must leave time for all of those.
    """
    reserved = sum(c.seconds for c in later if c.tier < case.tier)
    return case.seconds + reserved <= left_s
