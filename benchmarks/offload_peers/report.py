"""What is derived from a record, and the rows that are printed."""

from __future__ import annotations

import statistics
from typing import Any

PACKAGES = ("jaxdirect", "jax", "jaxlib", "jax-cuda13-plugin", "numpy", "torch")
OURS, KEEP, RECOMPUTE, JAX = "host", "keep", "recompute", "jax"

Record = dict[str, Any]


def _ratios(record: Record, name: str, base: str) -> list[float]:
    found = record.get("contenders", {})
    mine, theirs = (found.get(n, {}).get("rounds") or [] for n in (name, base))
    return [a / b for a, b in zip(mine, theirs, strict=False) if a is not None and b is not None]


def over(record: Record, name: str, base: str = KEEP) -> float | None:
    """Time of one contender over another's: the median over the rounds."""
    found = _ratios(record, name, base)
    return statistics.median(found) if found else None


def interval(record: Record, name: str, base: str = KEEP) -> tuple[float, float] | None:
    """Of the same ratio, the quarter and three-quarter points over the rounds."""
    found = _ratios(record, name, base)
    if len(found) < 4:
        return None
    low, _, high = statistics.quantiles(found)
    return low, high


def activations(record: Record, name: str) -> float | None:
    """Activation memory as a share of keep's: over full recompute; ours with its staging."""
    found = record.get("contenders", {})
    peaks = [found.get(n, {}).get("peak_bytes") for n in (name, KEEP, RECOMPUTE)]
    if None in peaks or peaks[1] == peaks[2]:
        return None
    own, keep, recompute = peaks
    return (own + found[name].get("staging_bytes", 0) - recompute) / (keep - recompute)


def saved(record: Record, name: str) -> float | None:
    """Bytes that the step's peak is below keep's, staging aside, over the bytes that move."""
    found = record.get("contenders", {})
    own, keep = found.get(name, {}), found.get(KEEP, {})
    if not own.get("moved_bytes") or "peak_bytes" not in keep:
        return None
    return (keep["peak_bytes"] - own["peak_bytes"]) / own["moved_bytes"]


def line(name: str, record: Record) -> str:
    """The rows of a case, one for each contender."""
    rows = [name]
    for who, figures in record["contenders"].items():
        if "seconds" not in figures:
            rows.append(f"  {who:<14} {_failure(figures)}")
            continue
        text = f"  {who:<14} {figures['seconds'] * 1e3:8.1f} ms"
        if who != KEEP and (cost := over(record, who)) is not None:
            text += f" {100 * (cost - 1):+6.1f} %"
            if (between := interval(record, who)) is not None:
                text += " ({:+.1f} to {:+.1f})".format(*(100 * (b - 1) for b in between))
        if (share := activations(record, who)) is not None:
            text += f" | activations {100 * share:5.1f} %"
        if "moved_bytes" in figures:
            text += f" | moved {figures['moved_bytes'] / 2**30:6.2f} GiB"
            text += f", staging {figures['staging_bytes'] / 2**30:5.2f}"
            text += f", {'same bits' if figures.get('same_bits') else 'OTHER BITS'}"
        rows.append(text)
    return "\n".join(rows)


def _failure(figures: Record) -> str:
    for key in ("oom", "skipped", "error"):
        if key in figures:
            return f"{key}: {figures[key][:110]}"
    return ""
