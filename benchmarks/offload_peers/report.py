"""What is derived from a record, and the row that is printed."""

from __future__ import annotations

import statistics
from typing import Any

PACKAGES = ("jaxdirect", "jax", "jaxlib", "jax-cuda13-plugin", "numpy", "torch")
OURS, KEEP, RECOMPUTE, JAX = "jaxdirect", "keep", "recompute", "jax_offload"

Record = dict[str, Any]


def over(record: Record, name: str, base: str = KEEP) -> float | None:
    """Time of one contender over another's: the median over the rounds."""
    found = record.get("contenders", {})
    mine, theirs = (found.get(n, {}).get("rounds") for n in (name, base))
    if not mine or not theirs:
        return None
    return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))


def interval(record: Record, name: str, base: str = KEEP) -> tuple[float, float] | None:
    """Of the same ratio, the quarter and three-quarter points over the rounds."""
    found = record.get("contenders", {})
    mine, theirs = (found.get(n, {}).get("rounds") for n in (name, base))
    if not mine or not theirs or len(mine) < 4:
        return None
    low, _, high = statistics.quantiles([a / b for a, b in zip(mine, theirs, strict=True)])
    return low, high


def activations(record: Record, name: str) -> float | None:
    """Activation memory as a share of keep's: over full recompute; ours with its staging."""
    found = record.get("contenders", {})
    peaks = [found.get(n, {}).get("peak_bytes") for n in (name, KEEP, RECOMPUTE)]
    if None in peaks or peaks[1] == peaks[2]:
        return None
    own, keep, recompute = peaks
    pools = record.get("staging_bytes", 0) if name == OURS else 0
    return (own + pools - recompute) / (keep - recompute)


def line(name: str, record: Record) -> str:
    """The row of a case."""
    cells = [f"{name:<26}"]
    for who, figures in record["contenders"].items():
        if "seconds" not in figures:
            cells.append(f"{who} {_failure(figures)}")
            continue
        share, cost = activations(record, who), over(record, who)
        text = f"{who} {figures['seconds'] * 1e3:8.1f} ms"
        if cost is not None and who != KEEP:
            text += f" {100 * (cost - 1):+6.1f} %"
        if share is not None:
            text += f" act {100 * share:4.0f} %"
        cells.append(text)
    cells.append({True: "same bits", False: "OTHER BITS", None: ""}[record.get("same_bits")])
    return " | ".join(cells)


def _failure(figures: Record) -> str:
    for key in ("oom", "skipped", "error"):
        if key in figures:
            return f"{key}: {figures[key][:110]}"
    return ""
