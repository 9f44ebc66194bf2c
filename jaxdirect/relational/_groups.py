"""Permutations of rows, and a softmax over runs of them, as edges in some order need."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdirect import _gradient
from jaxdirect.relational import _call


@_gradient.custom_vjp()
def gather_permuted(values: Float[Array, "n k"], places: Int[Array, " n"]) -> Float[Array, "n k"]:
    """`values[places]` for a permutation, whose transpose needs no sum."""
    return _call.take_rows(values, places)


@_gradient.custom_vjp()
def scatter_permuted(values: Float[Array, "n k"], places: Int[Array, " n"]) -> Float[Array, "n k"]:
    """Row i goes to `places[i]`, a permutation: the inverse of `gather_permuted`."""
    num_rows = values.shape[0]
    valid = (places >= 0) & (places < num_rows)
    to = jnp.where(valid, places, num_rows + jnp.arange(num_rows))
    return jnp.zeros_like(values).at[to].set(values, mode="drop", unique_indices=True)


gather_permuted.defvjp(
    lambda values, places: (gather_permuted(values, places), places),
    lambda places, cotangent: (scatter_permuted(cotangent, places), None),
)
scatter_permuted.defvjp(
    lambda values, places: (scatter_permuted(values, places), places),
    lambda places, cotangent: (gather_permuted(cotangent, places), None),
)


def _group_total(op: Callable, values: Array, starts: Bool[Array, "edges 1"]) -> Array:
    """For each entry the reduction of its group; a group begins where `starts` says.

    A scan over (begins, value) pairs: a fixed order of sums, and no atomics.
    """

    def combine(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        return a[0] | b[0], jnp.where(b[0], b[1], op(a[1], b[1]))

    num_entries = values.shape[0]
    _, running = jax.lax.associative_scan(combine, (starts, values))
    ends = jnp.concatenate([starts[1:, 0], jnp.ones(1, bool)])
    last = jax.lax.cummin(jnp.where(ends, jnp.arange(num_entries), num_entries), reverse=True)
    return running[last]


@_gradient.custom_vjp()
def group_softmax(scores: Float[Array, "n k"], starts: Bool[Array, "n 1"]) -> Float[Array, "n k"]:
    """The softmax in each run of rows; -inf counts nothing."""
    largest = _group_total(jnp.maximum, scores, starts)
    counted = scores > -jnp.inf
    weights = jnp.where(counted, jnp.exp(jnp.where(counted, scores - largest, 0)), 0)
    total = _group_total(jnp.add, weights, starts)
    return weights / jnp.where(total > 0, total, 1)


def group_softmax_fwd(scores: Array, starts: Array) -> tuple[Array, tuple]:
    out = group_softmax(scores, starts)
    return out, (out, starts)


def group_softmax_bwd(residual: tuple, cotangent: Array) -> tuple[Array, None]:
    out, starts = residual
    return out * (cotangent - _group_total(jnp.add, out * cotangent, starts)), None


group_softmax.defvjp(group_softmax_fwd, group_softmax_bwd)
