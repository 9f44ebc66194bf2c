"""The two halves of the gradient of a maximum, as native operations."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdirect import _ffi
from jaxdirect.relational import _call
from jaxdirect.relational._entries import (
    covers_weights,
    num_partials_on,
    scaled_rows,
    sum_by_head,
    sum_over_rows,
)
from jaxdirect.relational._lists import Lists


def _picked_sum_results(platform: str, *operands: Any, heads: int, num_partials: int) -> list:
    values, _, indptr, *_ = operands
    columns = values.shape[1]
    return [
        jax.ShapeDtypeStruct((indptr.shape[0] - 1, columns), values.dtype),
        jax.ShapeDtypeStruct((num_partials_on(platform, num_partials), columns), jnp.float32),
    ]


def _picked_sum_reference(
    values: Array,
    winners: Array,
    indptr: Array,
    indices: Array,
    items: Array,
    heavy: Array,
    edges: Array,
    weights: Array,
    weight_rows: Array,
    *,
    heads: int,
    num_partials: int,
) -> tuple[Array]:
    # An index out of range takes the row of zeros, and must not match edge 0.
    counts = (indices >= 0) & (indices < values.shape[0])
    picked = (_call.take_rows(winners, indices) == edges[:, None]) & counts[:, None]
    rows = scaled_rows(_call.take_rows(values, indices), weights, weight_rows, heads)
    total = sum_over_rows(jnp.where(picked, rows, 0), indptr)
    return (total.astype(values.dtype),)


_picked_sum_op = _ffi.Op(
    name="aggregate gradient",
    target="jaxdirect_relational_picked_sum",
    results=_picked_sum_results,
    num_outputs=1,
    reference=_picked_sum_reference,
    sharding_rule=_call.replicated(2),
    batch=_call.map_batch,
    covers=covers_weights(7),
)


def picked_sum(
    values: Array,
    winners: Array,
    lists: Lists,
    edges: Array,
    *,
    weights: Array | None = None,
    weight_rows: Array | None = None,
    implementation: str = "auto",
) -> Array:
    """`list_sum` over the columns where `winners[index]` is the entry's number in `edges`."""
    (out,) = _call.call(
        _picked_sum_op,
        values,
        winners,
        lists.indptr,
        lists.indices,
        lists.items,
        lists.heavy,
        edges,
        _call.empty(jnp.float32, 1) if weights is None else weights,
        _call.empty(jnp.int32) if weight_rows is None else weight_rows,
        heads=1 if weights is None else weights.shape[1],
        num_partials=lists.num_partials,
        implementation=implementation,
    )
    return out


def _picked_dot_results(platform: str, *operands: Any, heads: int) -> list:
    a, indices = operands[0], operands[4]
    return [jax.ShapeDtypeStruct((indices.shape[0], heads), _call.accumulator(a.dtype))]


def _picked_dot_reference(
    a: Array,
    winners: Array,
    b: Array,
    indptr: Array,
    indices: Array,
    items: Array,
    heavy: Array,
    to: Array,
    *,
    heads: int,
) -> tuple[Array]:
    num_entries = indices.shape[0]
    wide = _call.accumulator(a.dtype)
    rows = _call.row_of_entry(indptr, num_entries)
    picked = _call.take_rows(winners, rows) == jnp.arange(num_entries)[:, None]
    picked = picked & (rows < a.shape[0])[:, None]
    left, right = _call.take_rows(a, rows), _call.take_rows(b, indices)
    products = jnp.where(picked, left.astype(wide) * right.astype(wide), 0)
    return (sum_by_head(products, heads, to),)


_picked_dot_op = _ffi.Op(
    name="aggregate gradient",
    target="jaxdirect_relational_picked_dot",
    results=_picked_dot_results,
    num_outputs=1,
    reference=_picked_dot_reference,
    sharding_rule=_call.replicated(2),
    batch=_call.map_batch,
    covers=_call.covers_narrow,
)


def picked_dot(
    a: Array,
    winners: Array,
    b: Array,
    lists: Lists,
    *,
    heads: int,
    to: Array | None = None,
    implementation: str = "auto",
) -> Array:
    """`list_dot` over the columns where `winners[row]` is the entry: `[num_entries, heads]`."""
    (out,) = _call.call(
        _picked_dot_op,
        a,
        winners,
        b,
        lists.indptr,
        lists.indices,
        lists.items,
        lists.heavy,
        _call.empty(jnp.int32) if to is None else to,
        heads=heads,
        implementation=implementation,
    )
    return out
