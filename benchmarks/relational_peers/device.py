"""The programs of a layer: its training step, its repetition, their times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from harness import programs as harness
from harness.hlo import launches

SHORT_S = 0.003  # calls shorter than this are repeated inside one program
REPEATS = 64


def training(layer: Callable) -> Callable:
    """f(edges, x, weights, cotangent) -> (y, gradient of x, gradients of the weights)."""

    def step(edges, x, weights, cotangent):
        y, pull = jax.vjp(lambda x, weights: layer(edges, x, weights), x, weights)
        return y, *pull(cotangent)

    return step


def repeated(function: Callable) -> Callable:
    """f(*args) -> a scalar, after `REPEATS` calls one after another inside one program.

    The barriers make each call wait for the last one and keep all of its results, so that the
    compiler can neither hoist a call nor cut one down to the element that is used.
    """

    def run(*args):
        def step(_, total):
            held, total = jax.lax.optimization_barrier((args, total))
            results = jax.lax.optimization_barrier(jax.tree.leaves(function(*held)))
            firsts = (r[(0,) * r.ndim].astype(jnp.float32) for r in results if r.size)
            return total + sum(firsts)

        return jax.lax.fori_loop(0, REPEATS, step, jnp.float32(0))

    return run


class Program(harness.Program):
    """One function to measure.

    Args:
        name: of its record.
        function: of (edges, x, weights) or (edges, x, weights, cotangent).
        edges, rest: arguments before and after x.
        xs: different inputs, taken in turn.
        precision: of matrix products that say none themselves, as `jax.default_matmul_precision`.
    """

    def __init__(
        self,
        name: str,
        function: Callable,
        edges: Any,
        xs: Sequence[jax.Array],
        rest: tuple,
        precision: str | None = None,
    ):
        super().__init__(name, function, [(edges, x, *rest) for x in xs], precision)


def measure(programs: Sequence[Program], *, repeat_short: bool, count: int) -> None:
    """Fills the records: seconds, of the median round, or `oom`, or `error`.

    On a GPU calls are queued until they take `harness.SYNC_S`; short ones run `REPEATS` times
    inside one program, since launching a program from the host takes longer than they do.
    """
    harness.compile_all(programs)
    estimates = harness.estimates(programs)
    short = [p for p in programs if estimates.get(p.name, SHORT_S) < SHORT_S]
    if repeat_short and short:
        harness.compile_all(short, repeated)
    for program in short:
        if program._repeated is not None:
            one = harness.guarded(
                program, lambda p=program: harness.wait(p._repeated, p, 1), repetition=True
            )
            if one is None:
                program._repeated = None
            else:
                estimates[program.name] = one / REPEATS
    harness.time_all(programs, estimates, count=count, repeats=REPEATS)
    for program in programs:
        if "seconds" in program.record:
            program.record["repeated"] = program._repeated is not None


__all__ = ["Program", "launches", "measure", "repeated", "training"]
