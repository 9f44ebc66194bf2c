"""What the kinds of cases share: one training step by several ways to keep, move or recompute."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from harness import programs as harness
from harness.timing import Contender

from jaxdirect import offload

from . import model
from .report import JAX

SYNC_S = 0.4  # a step or a few
LIMIT_S = 240
RIVALS_EVERY = 4  # rounds

Wrap = Callable[[model.Block], model.Block]


@dataclasses.dataclass
class Context:
    """State of one benchmark process; attributes as in `conv_peers.run.Context`.

    Args:
        options: of the command line.
    """

    platform: str
    without: set[str]
    again: set[str]
    options: argparse.Namespace

    @property
    def rounds(self) -> int | None:
        return self.options.rounds

    @property
    def small(self) -> bool:
        return self.options.small

    def takes(self, name: str) -> bool:
        """Whether a contender takes part."""
        return name not in self.without and (not self.again or name in self.again)

    def config(self, name: str) -> model.Config:
        """Sizes of a model."""
        return model.SMALL if self.small else model.MODELS[name]

    def program(self, name: str, config: model.Config, wrap: Wrap, inputs: list) -> harness.Program:
        """A step; JAX's own offload is slow and steady, and takes part less often."""
        every = RIVALS_EVERY if name.startswith(JAX) and not self.small else 1
        return harness.Program(name, model.step(config, wrap), inputs, every=every)


def by_jax(policy: Any) -> Wrap:
    """Layers by `jax.checkpoint`."""
    return lambda block: jax.checkpoint(block, policy=policy, prevent_cse=False)


def by_ours(policy: offload.Policy) -> Wrap:
    """Layers by `offload.checkpoint`."""
    return lambda block: offload.checkpoint(block, policy, prevent_cse=False)


def saving(*names: str) -> Wrap:
    """Layers that save some names on the device."""
    return by_jax(jax.checkpoint_policies.save_only_these_names(*names))


def inputs(config: model.Config) -> list[tuple]:
    """Arguments of two different steps, with the same parameters."""
    params = model.init(config)
    return [(params, model.tokens(config, seed)) for seed in (1, 2)]


def compile_each(programs: Sequence[harness.Program]) -> None:
    """In turn: all meet the first one's choice of algorithms."""
    for program in programs:
        harness.compile_all([program])


def look(program: harness.Program, staging_bytes: int = 0) -> None:
    """Notes what one step of ours takes beside JAX's memory.

    Args:
        program: compiled.
        staging_bytes: for `offload.configure`.
    """
    offload.clear()
    offload.configure(staging_bytes=staging_bytes)
    before = offload.stats()
    jax.block_until_ready(program.call())
    after = offload.stats()
    program.record["moved_bytes"] = after["stored_bytes"] - before["stored_bytes"]
    program.record["staging_bytes"] = after["staging_bytes"]
    program.record["host_bytes"] = after["host_bytes"]


def time_steps(
    ctx: Context,
    programs: Sequence[harness.Program],
    staging: Mapping[str, int] | None = None,
    limit_s: float = LIMIT_S,
) -> None:
    """Times steps in turn, each waited for, and frees their programs.

    Args:
        ctx: the process.
        programs: compiled.
        staging: of ours, by name, what `offload.configure` is given where that is not its default.
        limit_s: start no further round after this many seconds.
    """

    def before(contender: Contender) -> None:
        # The staging is made anew, for this one's values alone.
        offload.configure(staging_bytes=(staging or {}).get(contender.name, 0))
        # Each meets the clocks of its own load: a GPU that waits for copies cools.
        contender.run(0)

    harness.time_all(
        programs,
        harness.estimates(programs),
        count=ctx.rounds or 20,
        sync_s=0.01 if ctx.small else SYNC_S,
        limit_s=limit_s,
        before=before,
    )
    offload.configure(staging_bytes=0)
    for program in programs:
        program.drop()
