"""The rows that are printed of a case."""

from __future__ import annotations

import statistics

from . import report
from .report import KEEP, Record

GIB, GB = 2**30, 1e9


def line(name: str, record: Record) -> str:
    """The rows of a case, one for each contender."""
    if "ours_bytes_per_s" in record:
        return _rate(name, record)
    rows = [
        name + (f" (link {record['link_bytes_per_s'] / GB:.1f} GB/s)" if _linked(record) else "")
    ]
    for who, figures in record["contenders"].items():
        text = _timed(record, who) if "seconds" in figures else _failure(figures)
        rows.append(f"  {who:<18} {text}")
    if "ratio" in record:
        rows.append(f"  save_on_cpu over all saved: {record['ratio']:.2f}x")
    return "\n".join(rows)


def _linked(record: Record) -> bool:
    return "link_bytes_per_s" in record


def _timed(record: Record, who: str) -> str:
    figures = record["contenders"][who]
    text = f"{figures['seconds'] * 1e3:8.1f} ms"
    if "multiple" in figures:
        return text + _batch(record, who)
    if who != KEEP and (cost := report.over(record, who)) is not None:
        text += f" {100 * (cost - 1):+6.1f} %"
        if (between := report.interval(record, who)) is not None:
            text += " ({:+.1f} to {:+.1f})".format(*(100 * (b - 1) for b in between))
        if "bound_over_keep" in figures:
            text += f", bound {100 * (figures['bound_over_keep'] - 1):+.1f} %"
    if (share := report.activations(record, who)) is not None:
        text += f" | activations {100 * share:5.1f} %"
    elif "peak_bytes" in figures:
        text += f" | peak {figures['peak_bytes'] / GIB:.2f} GiB"
    if "moved_bytes" in figures:
        text += f" | moved {figures['moved_bytes'] / GIB:6.2f} GiB"
        text += f", staging {figures['staging_bytes'] / GIB:5.2f}"
    if "same_bits" in figures:
        text += f", {'same bits' if figures['same_bits'] else 'OTHER BITS'}"
    if "policy" in figures:
        text += f" | {_places(figures['policy'])}, in {figures['planning_s']:.0f} s"
        if (peer := report.fitting_peer(record, who)) is not None:
            ratio = report.over(record, peer, who)
            text += f" | {peer} {ratio:.2f}x" if ratio is not None else ""
    return text


def _batch(record: Record, who: str) -> str:
    figures = record["contenders"][who]
    text = f" | batch {figures['batch']}, {figures['tokens_per_s']:.0f} tokens/s"
    if (rate := report.tokens_rate(record, who)) is not None:
        text += f" ({rate:.3f} of keep's)"
    return text + f" | activations {figures['activation_bytes'] / GIB:.2f} GiB"


def _rate(name: str, record: Record) -> str:
    ours, plain = (record[f"{who}_bytes_per_s"] / GB for who in ("ours", "plain"))
    how = "O_DIRECT" if record["direct"] else "through the page cache"
    share = record["kept_seconds"] / statistics.median(m["seconds"] for m in record["ours"])
    row = f"{name:<20} {ours:.2f} GB/s, plain {plain:.2f} GB/s {how}: {record['ratio']:.2f}x"
    return f"{row} (computing takes {100 * share:.0f} % of ours)"


def _places(policy: dict[str, str]) -> str:
    places = dict.fromkeys(policy.values())
    return "; ".join(
        f"{place} {', '.join(n for n, p in policy.items() if p == place)}" for place in places
    )


def _failure(figures: Record) -> str:
    for key in ("oom", "skipped", "error"):
        if key in figures:
            return f"{key}: {figures[key][:110]}"
    return ""
