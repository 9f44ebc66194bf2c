"""The row that is printed for a case."""

from __future__ import annotations

from typing import Any

from relational_peers.report import milliseconds, paired

from .contenders import COMPILED, FORMS

# Above it a row says so; TF32's products are within it.
LARGE_DIFFERENCE = 0.03


def line(name: str, record: dict[str, Any]) -> str:
    """Times, ratios to the first contender, peak memory of the step, and differences."""
    if "skipped" in record:
        return f"{name:<28} skipped: {record['skipped']}"
    kind, found = record["params"]["kind"], record["contenders"]
    if kind == "first":
        cells = [_first(who, passes) for who, passes in found.items()]
        return " | ".join([f"{name:<28}", *cells])
    base = next(iter(FORMS)) if kind == "ablation" else COMPILED
    cells = [f"{name:<28}"]
    # After `--again` the order of the record is not that of the row.
    for who in sorted(found, key=lambda who: who != base):
        cells.append(_contender(record, who, base))
    if record.get("oracle", {}).keys() & {"oom", "error"}:
        cells.append("no oracle: " + str(record["oracle"].get("oom", "it failed")))
    return " | ".join(cells)


def _contender(record: dict[str, Any], who: str, base: str) -> str:
    passes = record["contenders"][who]
    ran = [name for name in ("forward", "training") if name in passes]
    cells = [who, " / ".join(milliseconds(passes, name) for name in ran)]
    if any("seconds" in passes[name] for name in ran):
        cells.append("ms")
    ratios = [_ratio(record, who, base, name) for name in ran] if who != base else []
    if any(ratio is not None for ratio in ratios):
        shown = ("-" if ratio is None else f"{ratio:.2f}x" for ratio in ratios)
        cells.append(f"({' / '.join(shown)})")
    step = passes.get("training", {})
    if "peak_bytes" in step and "oom" not in step:
        cells.append(f"{step['peak_bytes'] / 2**30:.3f} GiB")
    if "launches" in step:
        cells.append(f"{step['launches']} launches")
    if (apart := record.get("difference", {}).get(who)) is not None:
        cells.append(f"err {apart['output']:.1g} / {apart['gradients']:.1g}")
        if not max(apart.values()) < LARGE_DIFFERENCE:
            cells.append("DIFFERS from the oracle")
    return " ".join(cells)


def _ratio(record: dict[str, Any], who: str, base: str, name: str) -> float | None:
    """Forms of an ablation are as many times as fast as the first; rivals take as many times."""
    pair = (base, who) if base != COMPILED else (who, base)
    return paired(record, *pair, name)


def _first(who: str, passes: dict[str, Any]) -> str:
    cells = [who]
    for name, label in (("training", "step"), ("forward", "fwd")):
        entry = passes.get(name, {})
        if "cold_s" not in entry:
            cells.append(f"{label} {entry.get('error', '-')}")
            continue
        parts = " + ".join(f"{entry[k]:.2f}" for k in ("trace_s", "lower_s", "compile_s", "run_s"))
        cells.append(f"{label} {entry['cold_s']:.2f} s ({parts}), warm {entry['warm_s']:.2g} s")
    return " ".join(cells)
