"""What is derived from a record, and the row that is printed."""

from __future__ import annotations

from typing import Any

from harness.timing import paired_ratio

PACKAGES = (
    "jaxdirect",
    "jax",
    "jaxlib",
    "jax-cuda13-plugin",
    "jax-cuda12-plugin",
    "nvidia-cudnn-cu13",
    "numpy",
    "torch",
    "torch-geometric",
    "pyg-lib",
)
OURS, REFERENCE = "jaxdirect", "reference"
PASSES = ("forward", "backward", "training")


def derive(record: dict[str, Any]) -> None:
    """Adds to a record: `backward` of each contender; rates, shares and ratios of ours."""
    for passes in record["contenders"].values():
        forward, training = (passes.get(k, {}).get("seconds") for k in ("forward", "training"))
        if forward is not None and training is not None:
            passes["backward"] = {"seconds": max(training - forward, 0.0)}
    ours = record["contenders"].get(OURS)
    floors = record.get("floors")
    if ours is None:
        return
    for name in PASSES:
        figures = ours.get(name, {})
        if (seconds := figures.get("seconds")) is None or not floors or not seconds:
            continue
        floor = floors[name]
        figures["gb_per_s"] = floor["no_reuse_bytes"] / seconds / 1e9
        figures["times_floor"] = seconds / floor["no_reuse_s"]
        figures["times_perfect_l2"] = seconds / floor["perfect_l2_s"]
        beside = record["memory_beside_arguments"].get(name)
        if beside is not None and "peak_bytes" in figures:  # arguments: those the program reads
            goal = beside + figures["memory_bytes"]["arguments"]
            figures["times_memory"] = figures["peak_bytes"] / goal


def seconds_of(record: dict[str, Any] | None, contender: str, name: str) -> float | None:
    """Seconds of one contender's pass, None if it did not run."""
    passes = ((record or {}).get("contenders") or {}).get(contender, {})
    return passes.get(name, {}).get("seconds")


def paired(record: dict[str, Any] | None, theirs: str, ours: str, name: str) -> float | None:
    """Median over the rounds of their time / ours in a pass; None if one did not run."""
    passes = [((record or {}).get("contenders") or {}).get(k, {}) for k in (theirs, ours)]
    peer, own = (p.get(name, {}).get("rounds") for p in passes)
    return paired_ratio(peer, own) if peer and own else None


def rivals(
    record: dict[str, Any] | None, pyg: dict[str, Any] | None, name: str
) -> dict[str, float]:
    """Seconds of every contender that is not ours and could run a pass."""
    found = {}
    for source in (record, pyg):
        for contender in (source or {}).get("contenders") or {}:
            seconds = seconds_of(source, contender, name)
            if contender not in (OURS, REFERENCE) and seconds:
                found[contender] = seconds
    return found


def milliseconds(passes: dict[str, Any], name: str) -> str:
    """Of a pass, or why it has none."""
    entry = passes.get(name, {})
    if "seconds" in entry:
        return f"{entry['seconds'] * 1e3:.3f}"
    for key in ("oom", "skipped", "error"):
        if key in entry:
            return entry[key] if key == "oom" else f"{key}: {entry[key][:60]}"
    return "-"


def line(name: str, record: dict[str, Any], pyg: dict[str, Any] | None = None) -> str:
    """The printed row of a case; `pyg` is the record of the same layer in PyG."""
    if "skipped" in record:
        return f"{name:<34} skipped: {record['skipped']}"
    if name.startswith("plan/"):
        return _plan_line(name, record)
    cells = [f"{name:<34}"]
    ours = record["contenders"].get(OURS)
    if ours is not None:
        for which, label in zip(PASSES, ("fwd", "bwd", "step"), strict=True):
            cells.append(f"{label} {milliseconds(ours, which):>9} ms")
            floor = ours.get(which, {}).get("times_floor")
            perfect = ours.get(which, {}).get("times_perfect_l2")
            if floor is not None and record["params"]["platform"] == "cuda":
                cells.append(f"{floor:>6.2f}x floor ({perfect:.1f}x L2)")
        rate = ours.get("forward", {}).get("gb_per_s")
        cells.append(f"{rate:>6.1f} GB/s" if rate else "")
        step = ours.get("training", {})
        if "peak_bytes" in step:
            goal = f" ({step['times_memory']:.2f}x)" if "times_memory" in step else ""
            cells.append(f"peak {step['peak_bytes'] / 2**30:.3f} GiB{goal}")
        launches = [str(ours.get(k, {}).get("launches", "-")) for k in ("forward", "training")]
        cells.append(f"launches {'/'.join(launches)}")
        cells += _ratios(record, pyg)
        difference = record.get("difference", {}).get(OURS)
        if difference is not None and not difference < 0.03:
            cells.append(f"| DIFFERS from the reference by {difference:.2g}")
        for part in ("forward", "training"):
            if "error" in ours.get(part, {}):
                cells.append(f"| FAILED {part}: {ours[part]['error'][:120]}")
    for contender, passes in record["contenders"].items():
        if contender != OURS:
            both = " / ".join(milliseconds(passes, k) for k in ("forward", "training"))
            cells.append(f"| {contender} {both}")
    return " ".join(cell for cell in cells if cell)


def _ratios(record: dict[str, Any], pyg: dict[str, Any] | None) -> list[str]:
    """Their time over ours, forward and training: the reference's, and the best rival's."""
    cells = []
    pairs = {name: rivals(record, pyg, name) for name in ("forward", "training")}
    for label in (REFERENCE, "best rival"):
        parts = []
        for name, found in pairs.items():
            mine = seconds_of(record, OURS, name)
            theirs = seconds_of(record, REFERENCE, name)
            who = ""
            if label != REFERENCE:
                best = min(found, key=lambda k: found[k]) if found else None
                theirs, who = (found[best], f" {best}") if best else (None, "")
            parts.append(f"{theirs / mine:.2f}x{who}" if mine and theirs else "-")
        cells.append(f"{label} {' / '.join(parts)}")
    return cells


def _plan_line(name: str, record: dict[str, Any]) -> str:
    graph = record["graph"]
    shares = "/".join(f"{graph[f'unique_{k}_share']:.3f}" for k in ("src", "dst", "min"))
    return (
        f"{name:<34} built in {record['build_s']:.2f} s, {record['plan_bytes'] / 2**20:.1f} MiB, "
        f"{record['plan_bytes_per_edge']:.0f} B/edge | {graph['note']}: {graph['nodes']} nodes, "
        f"{graph['edges']} edges, {graph['relations']} relations, {graph['types']} types, "
        f"unique src/dst/min {shares}, max degree in/out "
        f"{graph['max_in_degree']}/{graph['max_out_degree']}"
    )
