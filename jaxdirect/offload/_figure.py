"""The picture of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaxdirect.offload._candidate import Candidate, describe, pareto
from jaxdirect.offload._table import UNITS, size

if TYPE_CHECKING:
    from jaxdirect.offload.plan import Plan


def draw(plan: Plan) -> Any:
    """The recompute-offload-keep curve: peak device memory against step time."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "plan.figure needs matplotlib; pip install 'jaxdirect[train]'"
        ) from error
    unit, power = next((u for u in UNITS if plan.keep.peak_bytes >= 1 << u[1]), UNITS[-1])

    def place(c: Candidate) -> tuple[float, float]:
        return c.peak_bytes / (1 << power), c.seconds * 1e3

    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    shown = [c for c in plan.candidates if c.seconds < float("inf")]
    axes.plot(
        *zip(*map(place, pareto(shown)), strict=True),
        color="0.7",
        lw=1.2,
        zorder=1,
        label="best at each size",
        drawstyle="steps-post",
    )
    for is_timed, style in ((False, {"facecolors": "none"}), (True, {"facecolors": "C0"})):
        some = [place(c) for c in shown if c.is_timed == is_timed]
        if some:
            label = "measured" if is_timed else "predicted"
            axes.scatter(*zip(*some, strict=True), edgecolors="C0", label=label, zorder=2, **style)
    budget = plan.budget_bytes / (1 << power)
    axes.axvline(
        budget, color="C3", ls="--", lw=1, label=f"budget {size(plan.budget_bytes)}", zorder=0
    )
    axes.scatter(
        *place(plan.chosen), marker="*", s=220, color="C1", edgecolors="k", label="plan", zorder=3
    )
    axes.set(xlabel=f"peak device memory ({unit})", ylabel="step time (ms)")
    axes.set_title(describe(plan.policy), fontsize=9)
    for c, text in ((plan.keep, "keep all"), (plan.recompute, "recompute all")):
        axes.annotate(
            text, place(c), xytext=(0, 8), textcoords="offset points", fontsize=8, ha="center"
        )
    axes.margins(0.12)
    axes.legend(fontsize=8)
    return figure
