"""A policy for a step and what is known of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from jaxdirect.offload.policy import Policy


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A policy and what a step under it takes.

    Attributes:
        policy: a place for every name.
        peak_bytes: of device memory, the staging included.
        seconds: of a step.
        is_compiled: whether the compiler has given the peak; else it is predicted.
        is_timed: whether the seconds were measured; else they are predicted.
        fits: whether the peak is within the budget.
    """

    policy: Policy
    peak_bytes: int
    seconds: float
    is_compiled: bool
    is_timed: bool
    fits: bool


def describe(policy: Policy) -> str:
    """A policy in a few words."""
    places = ("keep", "host", "disk", "recompute")
    parts = [f"{place} {', '.join(names)}" for place in places if (names := policy.names(place))]
    return "; ".join(parts) if len(parts) > 1 else f"{parts[0].split()[0]} all"


def pareto(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Those that no other one beats in memory without being slower, by rising peak."""
    frontier: list[Candidate] = []
    for one in sorted(candidates, key=lambda c: (c.peak_bytes, c.seconds)):
        if not frontier or one.seconds < frontier[-1].seconds:
            frontier.append(one)
    return frontier
