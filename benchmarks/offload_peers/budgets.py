"""A case of budgets: what `offload.plan` makes of a share of keep's activation memory."""

from __future__ import annotations

import functools
import time
from typing import Any

from harness import programs as harness

from jaxdirect import offload

from . import model, policies, run
from .cases import Case
from .report import KEEP, PLANNED, RECOMPUTE, over

# Of the activation memory of keep, over recompute's. The first is that of a goal.
SHARES = (0.53, 0.3, 0.5, 0.7)
LIMIT_S = 150


def label(share: float) -> str:
    """What the step planned for a share is called."""
    return f"{PLANNED} {round(100 * share)}"


def measure(ctx: run.Context, case: Case) -> dict[str, Any]:
    """The record of a case; keep and recompute, by which all is judged, always take part."""
    config = ctx.config(case.model)
    inputs = run.inputs(config)
    ends = [
        ctx.program(KEEP, config, run.saving(*model.NAMES), inputs),
        ctx.program(RECOMPUTE, config, run.by_jax(None), inputs),
    ]
    run.compile_each(ends)
    peaks = [p.record.get("peak_bytes") for p in ends]
    if None in peaks:
        raise RuntimeError(f"keep or recompute was not compiled: {[p.record for p in ends]}")
    ready = list(ends)
    for share in SHARES:
        if ctx.takes(label(share)):
            budget = round(peaks[1] + share * (peaks[0] - peaks[1]))
            ready.append(_planned(ctx, config, inputs, label(share), budget))
    jax_own = [
        ctx.program(name, config, wrap, inputs)
        for name, wrap in policies.rivals()
        if ctx.takes(name)
    ]
    run.compile_each(jax_own)
    ready += jax_own
    staging = {p.name: p.record.get("planned_staging_bytes", 0) for p in ready}
    run.time_steps(ctx, ready, staging, limit_s=LIMIT_S)
    record = {"contenders": {p.name: p.record for p in ready}}
    for program in ready:  # of these rounds: --again may bring others of keep
        if (ratio := over(record, program.name)) is not None:
            program.record["over_keep"] = ratio
    return record


def _planned(
    ctx: run.Context, config: model.Config, inputs: list, name: str, budget: int
) -> harness.Program:
    """The planned step, compiled; or one that says why there is none."""

    def step(policy: offload.Policy, *args: Any) -> Any:
        return model.step(config, run.by_ours(policy))(*args)

    offload.clear()
    offload.configure(staging_bytes=0)
    begin = time.perf_counter()
    said: list[str] = []
    nothing = harness.Program(name, step, inputs, record={"budget_bytes": budget})
    plan = harness.guarded(
        nothing,
        lambda: offload.plan(step, *inputs[0], budget_bytes=budget, progress=said.append),
        refusals=(ValueError,),
    )
    nothing.record |= {"planning_s": time.perf_counter() - begin, "trials": said}
    if plan is None:
        return nothing
    program = ctx.program(name, config, run.by_ours(plan.policy), inputs)
    program.record |= nothing.record | {
        "policy": {n.name: n.place for n in plan.names},
        "planned_peak_bytes": plan.peak_bytes,
        "planned_seconds": plan.step_seconds,
        "planned_staging_bytes": plan.staging_bytes,
    }
    run.compile_each([program])
    if not program.failed():
        harness.guarded(program, functools.partial(run.look, program, plan.staging_bytes))
    return program
