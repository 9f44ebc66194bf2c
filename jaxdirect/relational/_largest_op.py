"""The largest message of each row, as a native operation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxdirect import _ffi
from jaxdirect.relational import _call
from jaxdirect.relational._entries import covers_weights, num_partials_on, scaled_rows
from jaxdirect.relational._lists import Lists


def _largest_results(platform: str, *operands: Any, heads: int, num_partials: int) -> list:
    values, indptr, *_ = operands
    size = (indptr.shape[0] - 1, values.shape[1])
    partial = (num_partials_on(platform, num_partials), values.shape[1])
    return [
        jax.ShapeDtypeStruct(size, values.dtype),
        jax.ShapeDtypeStruct(size, jnp.int32),
        jax.ShapeDtypeStruct(partial, jnp.float32),
        jax.ShapeDtypeStruct(partial, jnp.int32),
    ]


def _largest_reference(
    values: Array,
    indptr: Array,
    indices: Array,
    items: Array,
    heavy: Array,
    weights: Array,
    weight_rows: Array,
    *,
    heads: int,
    num_partials: int,
) -> tuple[Array, Array]:
    num_entries, num_rows = indices.shape[0], indptr.shape[0] - 1
    size = (num_rows, values.shape[1])
    if num_entries == 0:
        return jnp.zeros(size, values.dtype), jnp.full(size, -1, jnp.int32)
    counts = (indices >= 0) & (indices < values.shape[0])
    messages = scaled_rows(_call.take_rows(values, indices), weights, weight_rows, heads)
    rows = _call.row_of_entry(indptr, num_entries)

    def over_rows(reduce: Any, entries: Array, other: Any) -> Array:
        entries = jnp.where(counts[:, None], entries, other)
        return reduce(entries, rows, num_rows, indices_are_sorted=True)

    largest = over_rows(jax.ops.segment_max, jax.lax.stop_gradient(messages), -jnp.inf)
    of_entry = _call.take_rows(largest, rows)
    first = (messages == of_entry) | (jnp.isnan(messages) & jnp.isnan(of_entry))
    numbers = jnp.where(first, jnp.arange(num_entries)[:, None], num_entries)
    winners = over_rows(jax.ops.segment_min, numbers, num_entries)
    winners = jnp.where(winners < num_entries, winners, -1).astype(jnp.int32)
    # The message itself, so that a gradient finds its way.
    chosen = jnp.take_along_axis(messages, jnp.maximum(winners, 0), axis=0)
    return jnp.where(winners >= 0, chosen, 0).astype(values.dtype), winners


_largest_op = _ffi.Op(
    name="aggregate",
    target="jaxdirect_relational_largest",
    results=_largest_results,
    num_outputs=2,
    reference=_largest_reference,
    sharding_rule=_call.replicated(2, 2),
    batch=_call.map_batch,
    covers=covers_weights(5),
)


def list_max(
    values: Array,
    lists: Lists,
    *,
    weights: Array | None = None,
    weight_rows: Array | None = None,
    implementation: str = "auto",
) -> tuple[Array, Int[Array, "rows columns"]]:
    """For each row and column the largest `weight * values[index]`, and its entry (-1: none).

    Arguments as of `list_sum`; a row without entries is 0, and the first of equal messages counts.
    """
    return _call.call(
        _largest_op,
        values,
        lists.indptr,
        lists.indices,
        lists.items,
        lists.heavy,
        _call.empty(jnp.float32, 1) if weights is None else weights,
        _call.empty(jnp.int32) if weight_rows is None else weight_rows,
        heads=1 if weights is None else weights.shape[1],
        num_partials=lists.num_partials,
        implementation=implementation,
    )
