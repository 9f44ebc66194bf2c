"""The text of a plan."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxdirect.offload._candidate import Candidate
    from jaxdirect.offload._cost import Rates
    from jaxdirect.offload.plan import Plan

UNITS = (("GiB", 30), ("MiB", 20), ("KiB", 10))


def size(count: float) -> str:
    """Bytes in the unit that suits."""
    for unit, power in UNITS:
        if abs(count) >= 1 << power:
            return f"{count / (1 << power):.2f} {unit}"
    return f"{count:.0f} B"


def milliseconds(seconds: float) -> str:
    """Seconds as ms, with three digits or more; infinite ones are a step that has failed."""
    if seconds == math.inf:
        return "did not run"
    ms = seconds * 1e3
    return f"{ms:.1f} ms" if ms >= 100 else f"{ms:.2f} ms"


def text(plan: Plan) -> str:
    """A table of the names, then the step."""
    head = ("name", "bytes", "compute again", "move", "place", "reason")
    rows = [
        (
            name.name,
            size(name.bytes),
            milliseconds(name.recompute_seconds),
            milliseconds(name.transfer_seconds) if plan.moves else "-",
            name.place,
            name.reason,
        )
        for name in plan.names
    ]
    return "\n".join([*_aligned([head, *rows], "<>>><<"), "", *_summary(plan)])


def _summary(plan: Plan) -> list[str]:
    chosen = plan.chosen
    rows = [
        ("budget", size(plan.budget_bytes), "", ""),
        _row("plan", chosen, plan.expected_peak_bytes, plan.expected_seconds),
        _row("keep all", plan.keep),
        _row("recompute all", plan.recompute),
    ]
    lines = _aligned(rows, "<>><")
    lines.append(rates(plan.rates, plan.moves))
    if not plan.moves:
        lines.append("nothing can be moved on this platform: planned over keep and recompute alone")
    elif plan.staging_bytes:
        disk = f", on disk {size(plan.disk_bytes)}" if plan.disk_bytes else ""
        lines.append(
            f"host memory for what waits {size(plan.host_bytes)}{disk}; "
            f"staging on the device {size(plan.staging_bytes)}, within the peak: "
            f"offload.configure(staging_bytes={plan.staging_bytes})"
        )
    if plan.disk_bytes:
        lines.append(
            f"a drive rated for 1 PB written lasts {plan.drive_days(1e15):.3g} days of such steps"
        )
    return lines


def rates(found: Rates, moves: bool) -> str:
    """What was measured of a device, as a sentence."""
    link = f"host link {_rate(found.host)} each way" if moves else ""
    disk = f"disk {_rate(found.disk)} each way" if found.disk else ""
    parts = [part for part in (link, disk, f"device copies {_rate(found.copy)}") if part]
    return "rates: " + ", ".join(parts)


def _row(
    label: str, one: Candidate, peak: float | None = None, seconds: float | None = None
) -> tuple[str, str, str, str]:
    notes = []
    if peak is not None and seconds is not None:
        notes.append(f"expected {size(peak)}, {milliseconds(seconds)}")
    if not one.is_timed:
        notes.append("not run: its time is a prediction")
    if not one.fits:
        notes.append("above the budget")
    return label, size(one.peak_bytes), milliseconds(one.seconds), "; ".join(notes)


def _rate(rate: float) -> str:
    return f"{rate / 1e9:.1f} GB/s"


def _aligned(rows: list[tuple[str, ...]], sides: str) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:{s}{w}}" for cell, s, w in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    ]
