"""What a search for a policy keeps to, whom it asks, and what it is told."""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

from jaxdirect.offload._cost import Rates
from jaxdirect.offload.policy import Policy


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a plan has to keep to.

    Attributes:
        budget: device bytes.
        host: bytes of host memory for what waits, of all devices.
        disk: whether values may go to disk.
        moves: whether values may move at all.
    """

    budget: int
    host: float = math.inf
    disk: bool = False
    moves: bool = True


@dataclasses.dataclass(frozen=True)
class Trial:
    """What was found of a candidate.

    Attributes:
        base: device bytes, the staging not counted.
        staging: bytes of it.
        seconds: of a step; None if it was not run, infinite if it could not.
        expected_peak, expected_seconds: before the trial; None of the two that the predictions
            begin with.
    """

    base: int
    staging: int
    seconds: float | None
    expected_peak: int | None = None
    expected_seconds: float | None = None

    @property
    def peak(self) -> int:
        """Device bytes, with the staging."""
        return self.base + self.staging

    @property
    def measured(self) -> float | None:
        """Seconds of a step that ran."""
        return None if self.seconds == math.inf else self.seconds


class Measures(Protocol):
    """What a search asks; see `_measure.Steps`."""

    def peak(self, policy: Policy) -> int: ...
    def seconds(self, policy: Policy, needs: int, staging: int) -> float | None: ...
    def rates(self, value_bytes: int, disk: bool) -> Rates: ...
