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
from .cases import Case

OURS = "jaxdirect"
SYNC_S = 0.0  # every step is waited for

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


def contenders(case: Case) -> Iterator[tuple[str, Wrap]]:
    """Ours, and the same step without moving, with all computed again, and by JAX's offload."""
    stay = [n for n in model.NAMES if n not in case.names] if case.rest == "keep" else []
    policy = offload.Policy(host=case.names, keep=stay)
    save = jax.checkpoint_policies.save_only_these_names

    def by_jax(policy: Any) -> Wrap:
        return lambda block: jax.checkpoint(block, policy=policy, prevent_cse=False)

    yield "keep", by_jax(save(*model.NAMES))
    yield "same_names", by_jax(save(*stay, *case.names))
    yield OURS, lambda block: offload.checkpoint(block, policy, prevent_cse=False)
    yield "recompute", by_jax(None)
    yield "jax_offload", by_jax(offload.jax_policy(policy))


def measure(ctx: Context, case: Case) -> dict[str, Any]:
    """The record of a case."""
    config = model.SMALL if ctx.small else model.MODELS[case.model]
    params = model.init(config)
    inputs = [(params, model.tokens(config, seed)) for seed in (1, 2)]
    ready = [
        harness.Program(name, model.step(config, wrap), inputs)
        for name, wrap in contenders(case)
        if ctx.takes(name)
    ]
    harness.compile_all(ready)
    offload.clear()
    before = offload.stats()
    estimates = harness.estimates(ready)
    harness.time_all(ready, estimates, count=ctx.rounds or 20, sync_s=SYNC_S, limit_s=120)
    pools = {k: v - before[k] for k, v in offload.stats().items() if k.endswith("_bytes")}
    found = {p.name: p for p in ready if not p.failed()}
    record = {
        "value_bytes": {
            name: 2 * width * config.hidden * config.batch * config.steps * config.layers
            for name, width in model.NAMES.items()
        },
        "staging_bytes": offload.stats()["staging_bytes"],
        "pools": pools,
        "same_bits": _same_bits(found.get(OURS), found.get("same_names")),
        "contenders": {p.name: p.record for p in ready},
    }
    for program in ready:
        program.drop()
    return record


def _same_bits(one: harness.Program | None, other: harness.Program | None) -> bool | None:
    """Whether both steps give the same parameters, all of them."""
    if one is None or other is None:
        return None

    @jax.jit
    def equal(a: Any, b: Any) -> jax.Array:
        pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        return jnp.stack([(x == y).all() for x, y in pairs]).all()

    return bool(equal(one.call(), other.call()))
