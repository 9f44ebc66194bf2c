"""Measures a case: one training step by several ways to keep, move or recompute."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from harness import programs as harness

from jaxdirect import offload

from . import model
from .cases import MOVES, RIVALS, Case, Move
from .report import JAX, KEEP, OURS, RECOMPUTE

SYNC_S = 0.8  # several short steps in a row
LIMIT_S = 240
RIVALS_EVERY = 4  # rounds

Wrap = Callable[[model.Block], model.Block]


@dataclasses.dataclass
class Context:
    """State of one benchmark process; attributes as in `conv_peers.run.Context`."""

    platform: str
    without: set[str]
    again: set[str]
    rounds: int | None = None
    small: bool = False

    def takes(self, name: str) -> bool:
        """Whether a contender takes part."""
        return name not in self.without and (not self.again or name in self.again)


def by_jax(policy: Any) -> Wrap:
    """Layers by `jax.checkpoint`."""
    return lambda block: jax.checkpoint(block, policy=policy, prevent_cse=False)


def by_ours(policy: offload.Policy) -> Wrap:
    """Layers by `offload.checkpoint`."""
    return lambda block: offload.checkpoint(block, policy, prevent_cse=False)


def saving(*names: str) -> Wrap:
    """Layers that save some names on the device."""
    return by_jax(jax.checkpoint_policies.save_only_these_names(*names))


def contenders() -> Iterator[tuple[str, Wrap, Move | None]]:
    """All kept, all computed again, ours, and the same names by JAX's offload."""
    yield KEEP, saving(*model.NAMES), None
    yield RECOMPUTE, by_jax(None), None
    for name, move in MOVES.items():
        policy = offload.Policy(host=move.names, keep=move.kept)
        yield f"{OURS} {name}", by_ours(policy), move
    for name in RIVALS:
        policy = offload.Policy(host=MOVES[name].names, keep=MOVES[name].kept)
        yield f"{JAX} {name}", by_jax(offload.jax_policy(policy)), None


def measure(ctx: Context, case: Case) -> dict[str, Any]:
    """The record of a case."""
    config = model.SMALL if ctx.small else model.MODELS[case.model]
    params = model.init(config)
    inputs = [(params, model.tokens(config, seed)) for seed in (1, 2)]
    moves, ready = {}, []
    for name, wrap, move in contenders():
        if ctx.takes(name):
            moves[name] = wrap, move
            every = RIVALS_EVERY if name.startswith(JAX) and not ctx.small else 1
            ready.append(harness.Program(name, model.step(config, wrap), inputs, every=every))
    for program in ready:  # in turn: all meet the first one's choice of algorithms
        harness.compile_all([program])
    for program in ready:
        wrap, move = moves[program.name]
        if move is not None and not program.failed():
            harness.guarded(program, lambda p=program: _look(p))
            same = harness.guarded(program, lambda w=wrap, m=move: _same(config, w, m, inputs[0]))
            program.record["same_bits"] = same
    harness.time_all(
        ready,
        harness.estimates(ready),
        count=ctx.rounds or 20,
        sync_s=SYNC_S,
        limit_s=LIMIT_S,
        # Each meets the clocks of its own load: a GPU that waits for copies cools.
        before=lambda contender: contender.run(0),
    )
    for program in ready:
        program.drop()
    return {
        "value_bytes": {
            name: 2 * width * config.hidden * config.batch * config.steps * config.layers
            for name, width in model.NAMES.items()
        },
        "contenders": {p.name: p.record for p in ready},
    }


def _look(program: harness.Program) -> None:
    """Notes what one step of ours takes beside JAX's memory."""
    offload.clear()
    before = offload.stats()
    jax.block_until_ready(program.call())
    after = offload.stats()
    program.record["moved_bytes"] = after["stored_bytes"] - before["stored_bytes"]
    program.record["staging_bytes"] = after["staging_bytes"]
    program.record["host_bytes"] = after["host_bytes"]


def _same(config: model.Config, wrap: Wrap, move: Move, given: tuple) -> bool:
    """Whether a step of ours gives what saving the same names gives, all of it.

    Compiled to repeat itself: else the gradient of the tokens is summed in any order.
    """

    def result(wrap: Wrap) -> Any:
        lowered = jax.jit(model.step(config, wrap)).lower(*given)
        return lowered.compile(compiler_options={"xla_gpu_deterministic_ops": True})(*given)

    return bool(_equal(result(wrap), result(saving(*move.saved))))


@jax.jit
def _equal(one: Any, other: Any) -> jax.Array:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return jnp.stack([(x == y).all() for x, y in pairs]).all()
