"""A case of batches: how much larger one may be in the activation memory of keep.

The activation memory of a policy at a batch is its peak and staging less the peak of full
recomputation at the same batch: what grows with the batch whatever is moved does not count.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from harness import programs as harness

from jaxdirect.offload import engine

from . import model, policies, run
from .cases import MOVES, Case
from .report import KEEP, OURS, RECOMPUTE

MULTIPLES = (1, 1.5, 1.8, 2.0, 2.2)
SMALL_MULTIPLES = (1, 2)
MOVED = ("up+qkv", "all")
LIMIT_S = 150


def batches(config: model.Config, small: bool) -> list[int]:
    """Sequences: at least each multiple of the model's own."""
    found = (math.ceil(m * config.batch) for m in (SMALL_MULTIPLES if small else MULTIPLES))
    return list(dict.fromkeys(found))


def measure(ctx: run.Context, case: Case) -> dict[str, Any]:
    """The record of a case: ours at every batch by memory, those that fit by time too."""
    base = ctx.config(case.model)
    # Parameters do not depend on the batch, and are there once.
    params = model.init(base)
    keep, most, found = None, 0, []
    for batch in batches(base, ctx.small):
        config = dataclasses.replace(base, batch=batch)
        inputs = [(params, model.tokens(config, seed)) for seed in (1, 2)]
        least = ctx.program(RECOMPUTE, config, run.by_jax(None), inputs)
        run.compile_each([least])
        least.drop()
        if keep is None:
            keep = ctx.program(KEEP, config, run.saving(*model.NAMES), inputs)
            _weigh(keep, least, config, base, 0)
            if keep.failed():
                raise RuntimeError(f"keep was not compiled: {keep.record}")
            most = keep.record["activation_bytes"]
            found.append(keep)
        for name in MOVED:
            if ctx.takes(f"{OURS} {name}"):
                wrap = run.by_ours(policies.policy_of(MOVES[name]))
                title = f"{OURS} {name} x{batch / base.batch:.4g}"
                program = ctx.program(title, config, wrap, inputs)
                sizes = model.value_bytes(config)
                staging = engine.staging_bytes(max(sizes[n] for n in MOVES[name].names))
                _weigh(program, least, config, base, staging)
                _leave_out_above(program, most)
                found.append(program)
    run.time_steps(ctx, found, limit_s=LIMIT_S)
    for program in found:
        if "seconds" in program.record:
            tokens = program.record["batch"] * base.steps
            program.record["tokens_per_s"] = tokens / program.record["seconds"]
    return {"activation_budget_bytes": most, "contenders": {p.name: p.record for p in found}}


def _weigh(
    program: harness.Program,
    least: harness.Program,
    config: model.Config,
    base: model.Config,
    staging_bytes: int,
) -> None:
    """Compiles a step and notes its batch and its activation memory."""
    run.compile_each([program])
    program.record |= {
        "batch": config.batch,
        "multiple": config.batch / base.batch,
        "staging_bytes": staging_bytes,
    }
    peaks = [p.record.get("peak_bytes") for p in (program, least)]
    if None in peaks:
        program.record.setdefault("error", f"recompute was not compiled: {least.record}"[:500])
        return
    program.record["recompute_peak_bytes"] = peaks[1]
    program.record["activation_bytes"] = peaks[0] + staging_bytes - peaks[1]


def _leave_out_above(program: harness.Program, most: int) -> None:
    needed = program.record.get("activation_bytes")
    if needed is not None and needed > most:
        program.record["skipped"] = f"activations of {needed} bytes, {most} at most"
        program.drop()
