"""The largest message of each row, as a native operation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxdirect import _ffi
from jaxdirect.relational import _call
from jaxdirect.relational._lists import Lists


def num_partials_on(platform: str, num_partials: int) -> int:
    """How many of them the platform keeps."""
    return num_partials if platform == "cuda" else 0


def entry_factors(weights: Array, weight_rows: Array, num_entries: int, heads: int) -> Array | None:
    """`[num_entries, heads, 1]`, or None for ones."""
    if weights.shape[0] == 0:
        return None
    own = weights[:num_entries] if weight_rows.shape[0] == 0 else None
    factors = _call.take_rows(weights, weight_rows) if own is None else own
    return factors.reshape(num_entries, heads, 1)


def scaled_rows(rows: Array, factors: Array | None) -> Array:
    """`rows` `[num_entries, columns]` in the wide type, times each entry's factors."""
    wide = rows.astype(_call.accumulator(rows.dtype))
    if factors is None:
        return wide
    num_entries, heads, _ = factors.shape
    by_head = wide.reshape(num_entries, heads, wide.shape[1] // heads)
    return (by_head * factors.astype(wide.dtype)).reshape(wide.shape)


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
    factors = entry_factors(weights, weight_rows, num_entries, heads)
    messages = scaled_rows(_call.take_rows(values, indices), factors)
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


def covers_weights(number: int) -> Any:
    """What native code takes, with operand `number` the float32 weights."""

    def covers(platform: str, *operands: Any, **_: Any) -> bool:
        return operands[number].dtype == jnp.float32 and _call.covers(platform, operands[0])

    return covers


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
