"""A case of fixed policies: all kept, all computed again, ours, and JAX's own offload."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from harness import programs as harness

from jaxdirect import offload

from . import link, model, run
from .cases import MOVES, RIVALS, Case, Move
from .report import JAX, KEEP, OURS, RECOMPUTE


def policy_of(move: Move) -> offload.Policy:
    """The same as a policy."""
    return offload.Policy(host=move.names, keep=move.kept)


def rivals() -> Iterator[tuple[str, run.Wrap]]:
    """JAX's own offload."""
    for name in RIVALS:
        yield f"{JAX} {name}", run.by_jax(offload.jax_policy(policy_of(MOVES[name])))


def contenders() -> Iterator[tuple[str, run.Wrap, Move | None]]:
    """All kept, all computed again, ours, and the same names by JAX's offload."""
    yield KEEP, run.saving(*model.NAMES), None
    yield RECOMPUTE, run.by_jax(None), None
    for name, move in MOVES.items():
        yield f"{OURS} {name}", run.by_ours(policy_of(move)), move
    for name, wrap in rivals():
        yield name, wrap, None


def measure(ctx: run.Context, case: Case) -> dict[str, Any]:
    """The record of a case."""
    config = ctx.config(case.model)
    inputs = run.inputs(config)
    moves, ready = {}, []
    for name, wrap, move in contenders():
        if ctx.takes(name):
            moves[name] = move
            ready.append(ctx.program(name, config, wrap, inputs))
    record = link.measure(config, inputs[0])
    run.compile_each(ready)
    same = Same(config, inputs[0])
    ours = [(p, move) for p in ready if (move := moves[p.name]) is not None]
    for program, move in ours:
        if not program.failed():
            size = move.staging_bytes(config)
            harness.guarded(program, functools.partial(run.look, program, size))
            program.record["recomputes"] = move.rest == "recompute"
            program.record["same_bits"] = harness.guarded(program, functools.partial(same, move))
    del same
    run.time_steps(ctx, ready, {p.name: move.staging_bytes(config) for p, move in ours})
    sizes = {name: config.layers * size for name, size in model.value_bytes(config).items()}
    return record | {"value_bytes": sizes, "contenders": {p.name: p.record for p in ready}}


class Same:
    """Says whether a step of ours gives what saving the same names gives, all of it.

    Compiled to repeat itself: else the gradient of the tokens is summed in any order.

    Args:
        config: of the model.
        given: arguments of the step.
    """

    def __init__(self, config: model.Config, given: tuple):
        self._config, self._given = config, given
        self._known: dict[tuple, Callable[..., Any]] = {}

    def __call__(self, move: Move) -> bool:
        saved = tuple(sorted(move.saved))
        ours = self._result(("ours", move.names, move.rest), run.by_ours(policy_of(move)))
        return bool(_equal(ours, self._result(saved, run.saving(*saved))))

    def _result(self, key: tuple, wrap: run.Wrap) -> Any:
        if key not in self._known:
            lowered = jax.jit(model.step(self._config, wrap)).lower(*self._given)
            compiled = lowered.compile(compiler_options={"xla_gpu_deterministic_ops": True})
            self._known[key] = compiled
        return self._known[key](*self._given)


@jax.jit
def _equal(one: Any, other: Any) -> jax.Array:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return jnp.stack([(x == y).all() for x, y in pairs]).all()
