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
    "nvidia-cudnn-cu12",
    "numpy",
    "torch",
)
OURS, AUTO, TORCH = "jaxdirect", "auto", "torch"
XLA = ("xla_nhwc", "xla_nchw")
WIDTH = 32

Record = dict[str, Any]


def derive(record: Record) -> None:
    """Adds rates and shares of the floor to every contender of a layer."""
    if "floors" not in record:
        return
    for figures in record["contenders"].values():
        if seconds := figures.get("seconds"):
            figures["tflops"] = record["flops"] / seconds / 1e12
            figures["times_floor"] = seconds / record["floors"]["floor_s"]
            expected = record["expected_convolutions"]
            lost = expected - figures.get("convolutions", expected)
            figures["lost_convolutions"] = max(lost, 0)


def contenders(record: Record | None, torch: Record | None) -> dict[str, Record]:
    """Figures of everyone who took part in a case, PyTorch being in a record of its own."""
    return {k: v for r in (record, torch) for k, v in ((r or {}).get("contenders") or {}).items()}


def ratio(found: dict[str, Record], peer: str, ours: str = OURS) -> float | None:
    """Their time over ours: median over the rounds, or of medians where rounds are not paired."""
    mine, theirs = found.get(ours, {}), found.get(peer, {})
    if "seconds" not in mine or "seconds" not in theirs:
        return None
    if peer != TORCH and len(mine["rounds"]) == len(theirs["rounds"]):
        return paired_ratio(theirs["rounds"], mine["rounds"])
    return theirs["seconds"] / mine["seconds"]


def best_ratio(found: dict[str, Record], peers: tuple[str, ...], ours: str = OURS) -> float | None:
    """Time of the fastest of some peers over ours."""
    ratios = [r for p in peers if (r := ratio(found, p, ours)) is not None]
    return min(ratios) if ratios else None


def worst_error(figures: Record) -> tuple[float, float] | None:
    """Largest relative L2 and componentwise error of a contender's results."""
    if not (parts := figures.get("accuracy")):
        return None
    worst = [max(part[k] for part in parts.values()) for k in ("rel_l2", "componentwise")]
    return worst[0], worst[1]


def _failure(figures: Record) -> str | None:
    for key in ("oom", "skipped", "error"):
        if key in figures:
            return figures[key] if key == "oom" else f"{key}: {figures[key][:110]}"
    return None


def _errors(figures: Record) -> str:
    worst = worst_error(figures)
    return f"err {worst[0]:.1e}/{worst[1]:.1e}" if worst else ""


def line(name: str, record: Record, torch: Record | None = None) -> str:
    """The printed row of a case; `torch` is the record of the same case in PyTorch."""
    if "error" in record:
        return f"{name:<{WIDTH}} FAILED {record['error'][:300]}"
    found = contenders(record, torch)
    cells = [f"{name:<{WIDTH}}"]
    on_gpu = record.get("params", {}).get("platform") == "cuda"  # whose the floors are
    if on_gpu and "floors" in record:
        cells.append(f"floor {record['floors']['floor_s'] * 1e3:7.3f} ms")
        cells += [] if record["past_l2"] else ["(operands in L2)"]
    order = [OURS, AUTO, *(k for k in found if k not in (OURS, AUTO))]
    for who in (k for k in order if k in found):
        figures = found[who]
        cells.append(f"| {who}")
        if (why := _failure(figures)) is not None:
            cells.append(why)
            continue
        cells.append(f"{figures['seconds'] * 1e3:8.3f} ms")
        if on_gpu and figures.get("dispatch_s", 0) > 0.9 * figures["seconds"]:
            cells.append("(host-bound)")
        if who == OURS and "tflops" in figures:
            cells.append(f"{figures['tflops']:6.1f} TFLOPS")
            cells += [f"{figures['times_floor']:5.2f}x floor"] if on_gpu else []
        if who != OURS and (times := ratio(found, who)) is not None:
            cells.append(f"{times:5.2f}x")
        cells.append(_errors(figures))
        if figures.get("workspace_bytes"):
            cells.append(f"ws {figures['workspace_bytes'] / 1e6:.1f} MB")
        if figures.get("lost_convolutions"):
            cells.append(f"ONLY {figures['convolutions']} convolutions in the program")
        if "loss" in figures:
            cells.append(f"loss {figures['loss']:.4f}")
    return " ".join(cell for cell in cells if cell)
