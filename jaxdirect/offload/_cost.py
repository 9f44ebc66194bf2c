"""What a step takes, in seconds and in bytes, by where its named values wait.

Transfers run beside the computation, a value out while the forward pass goes on and back in while
the backward pass does. With forward seconds F and backward seconds B of a step that keeps all, R
more for what is computed again, and M bytes moved, D of them to disk, with a staging of S bytes:

    out = max((M - S) / rate out, D / disk rate out);  in likewise
    seconds = max(F, out) + max(B + R, in) + 2 M / copy rate

What the staging holds when the forward pass ends is there for the backward pass. The last term is
the copies between XLA's buffers and the staging, which the device makes itself.
R is the share of full recomputation that the work of the jaxpr says, and full recomputation takes
what was measured.
"""

from __future__ import annotations

import dataclasses

from jaxdirect.offload._trace import Bytes
from jaxdirect.offload._work import Work

LINK_SHARE = 0.85  # of a pass: the first value comes some time after its beginning


@dataclasses.dataclass(frozen=True)
class Rates:
    """What the device and its links do.

    Attributes:
        host: bytes a second from the device to host memory, and as many back.
        disk: the same to disk; None where no directory is configured.
        copy: bytes a second that a copy within the device's memory gets through.
        flops: a second, in matrix products.
    """

    host: float
    disk: float | None
    copy: float
    flops: float


@dataclasses.dataclass(frozen=True)
class Clock:
    """Seconds of a step, split.

    Attributes:
        forward: of a step that keeps all, until its backward pass.
        backward: the rest of it.
        scale: seconds of work done again, over what its `work_seconds` says.
    """

    forward: float
    backward: float
    scale: float

    def staging(self, moved: int, on_disk: int, rates: Rates) -> int:
        """Bytes of staging with which no pass of a step waits for the link.

        Args:
            moved: bytes.
            on_disk: of those, bytes that go on to disk.
            rates: of the device.
        """
        in_time = LINK_SHARE * min(self.forward, self.backward)
        seconds = transfer_seconds(moved, on_disk, rates)
        return moved - int(moved * min(1.0, in_time / seconds)) if seconds > 0 else 0

    def seconds(
        self,
        again: float,
        places: dict[str, str],
        sizes: dict[str, Bytes],
        rates: Rates,
        staging: int = 0,
    ) -> float:
        """Of a step with values in these places and `again` work seconds computed again."""
        moved = sum(b.moved for name, b in sizes.items() if places[name] in ("host", "disk"))
        on_disk = sum(b.moved for name, b in sizes.items() if places[name] == "disk")
        one_way = transfer_seconds(max(moved - staging, 0), on_disk, rates)
        backward = self.backward + self.scale * again
        return max(self.forward, one_way) + max(backward, one_way) + 2 * moved / rates.copy


def transfer_seconds(moved: int, on_disk: int, rates: Rates) -> float:
    """Seconds of moving so many bytes, some of them to disk, one way."""
    disk = on_disk / rates.disk if rates.disk else 0.0
    return max(moved / rates.host, disk)


def work_seconds(work: Work, rates: Rates) -> float:
    """Seconds of work at the measured rates, computing and reading one after the other."""
    return work.flops / rates.flops + work.bytes / (2 * rates.copy)


def clock(
    kept: Work,
    again: Work,
    forward: Work,
    rates: Rates,
    keep: float | None,
    recompute: float | None,
) -> Clock:
    """The clock that agrees with what was measured.

    Args:
        kept: work of the step that keeps all.
        again: work of the step that computes all again.
        forward: work before the backward pass.
        rates: of the device.
        keep: measured seconds of the step that keeps all, or None if it does not run.
        recompute: of the step that computes all again, or None.

    Returns:
        The clock; that of the work alone where nothing was measured.
    """
    base, full = work_seconds(kept, rates), work_seconds(again, rates)
    scale = 1.0
    if keep is not None and recompute is not None and full > base and recompute > keep:
        scale = (recompute - keep) / (full - base)
    elif keep is not None:
        scale = keep / base if base else 1.0
    elif recompute is not None:
        scale = recompute / full if full else 1.0
    whole = keep if keep is not None else scale * base
    share = min(1.0, work_seconds(forward, rates) / base) if base else 0.0
    return Clock(whole * share, whole * (1 - share), scale)
