"""What is derived from a record, and the rows that are printed."""

from __future__ import annotations

import statistics
from typing import Any

PACKAGES = ("jaxdirect", "jax", "jaxlib", "jax-cuda13-plugin", "numpy", "torch")
OURS, KEEP, RECOMPUTE, JAX, PLANNED = "host", "keep", "recompute", "jax", "planned"

Record = dict[str, Any]


def _ratios(record: Record, name: str, base: str) -> list[float]:
    """Of each round; none where the two were not measured in turns."""
    found, runs = record.get("contenders", {}), record.get("runs_of_others", {})
    if runs.get(name) != runs.get(base):
        return []
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


def bound(record: Record, name: str) -> float | None:
    """Least time of a step of ours over keep's, if nothing but the link to the host bounds it.

    With F and B the seconds of keep's forward and backward pass, M moved bytes, S of staging (what
    it holds when the forward pass ends need not have left) and r bytes a second of the link:
    max(F, (M - S) / r) + max(B, (M - S) / r). Where the names that stay are computed again, B is
    what full recomputation takes beyond F.
    """
    found = record.get("contenders", {})
    own, keep = found.get(name, {}), found.get(KEEP, {}).get("seconds")
    whole = found.get(RECOMPUTE, {}).get("seconds") if own.get("recomputes") else keep
    if keep is None or whole is None or "moved_bytes" not in own or "forward_share" not in record:
        return None
    forward = keep * record["forward_share"]
    left = max(own["moved_bytes"] - own["staging_bytes"], 0)
    one_way = left / record["link_bytes_per_s"]
    return (max(forward, one_way) + max(whole - forward, one_way)) / keep


def derive(record: Record) -> None:
    """Adds the bounds to a record."""
    for who, figures in record.get("contenders", {}).items():
        if (least := bound(record, who)) is not None:
            figures["bound_over_keep"] = least


def fitting_peer(record: Record, name: str) -> str | None:
    """The fastest peer of a planned step that needs no more memory than its budget.

    Peers are keep, full recomputation and JAX's own offload.
    """
    found = record.get("contenders", {})
    budget = found.get(name, {}).get("budget_bytes")
    peers = {
        who: figures["seconds"]
        for who, figures in found.items()
        if (who in (KEEP, RECOMPUTE) or who.startswith(JAX))
        and "seconds" in figures
        and budget is not None
        and figures["peak_bytes"] <= budget
    }
    return min(peers, key=lambda who: peers[who], default=None)


def tokens_rate(record: Record, name: str) -> float | None:
    """Tokens a second over keep's, which has the model's own batch."""
    cost = over(record, name)
    return None if cost is None else record["contenders"][name]["multiple"] / cost


def largest_multiple(record: Record, least_rate: float) -> float | None:
    """The largest batch, in units of the model's own, that is worked through as fast as keep's.

    Args:
        record: of a case of batches, in which those that need too much memory were not timed.
        least_rate: tokens a second, over keep's.
    """
    rates = {who: tokens_rate(record, who) for who in record.get("contenders", {})}
    multiples = [
        record["contenders"][who]["multiple"]
        for who, rate in rates.items()
        if rate is not None and who.startswith(OURS) and rate >= least_rate
    ]
    return max(multiples, default=0.0 if any(rates.values()) else None)
