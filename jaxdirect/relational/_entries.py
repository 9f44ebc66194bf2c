"""What the references of the operations over lists share, and what their native code takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdirect.relational import _call


def num_partials_on(platform: str, num_partials: int) -> int:
    """How many of the pieces of heavy rows leave a result of their own."""
    return num_partials if platform == "cuda" else 0


def covers_weights(number: int) -> Callable[..., bool]:
    """What native code takes, with operand `number` the float32 weights."""

    def covers(platform: str, *operands: Any, **_: Any) -> bool:
        return operands[number].dtype == jnp.float32 and _call.covers(platform, operands[0])

    return covers


def scaled_rows(rows: Array, weights: Array, weight_rows: Array, heads: int) -> Array:
    """`rows` `[num_entries, columns]` in the wide type, times each entry's weights, if any.

    Without `weight_rows` an entry has the row of `weights` of its own number.
    """
    num_entries, columns = rows.shape
    wide = rows.astype(_call.accumulator(rows.dtype))
    if weights.shape[0] == 0:
        return wide
    own = weight_rows.shape[0] == 0
    scale = weights[:num_entries] if own else _call.take_rows(weights, weight_rows)
    scale = scale.reshape(num_entries, heads, 1).astype(wide.dtype)
    return (wide.reshape(num_entries, heads, columns // heads) * scale).reshape(wide.shape)


def sum_over_rows(rows: Array, indptr: Array) -> Array:
    """`[num_rows, columns]`: the sum of each row's entries."""
    segments = _call.row_of_entry(indptr, rows.shape[0])
    return jax.ops.segment_sum(rows, segments, indptr.shape[0] - 1, indices_are_sorted=True)


def sum_by_head(products: Array, heads: int, to: Array) -> Array:
    """`[num_entries, heads]`: the sum over each head's columns, placed by `to` if given."""
    num_entries, columns = products.shape
    out = products.reshape(num_entries, heads, columns // heads).sum(-1)
    if to.shape[0] == 0:
        return out
    places = jnp.where(to >= 0, to, num_entries)
    return jnp.zeros_like(out).at[places].set(out, mode="drop")
