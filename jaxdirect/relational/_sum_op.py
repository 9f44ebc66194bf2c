"""Sums of rows over lists, and the products that differentiate them, as native operations."""

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


def _sum_results(platform: str, *operands: Any, **attributes: int) -> list:
    columns = attributes["columns"]
    partials = num_partials_on(platform, attributes["num_partials"])
    return [
        jax.ShapeDtypeStruct((attributes["num_rows"], columns), operands[0].dtype),
        jax.ShapeDtypeStruct((partials, columns), jnp.float32),
    ]


def _sum_reference(
    values: Array,
    indptr: Array,
    indices: Array,
    items: Array,
    heavy: Array,
    weights: Array,
    weight_rows: Array,
    *,
    first_column: int,
    columns: int,
    heads: int,
    first_row: int,
    num_rows: int,
    num_partials: int,
) -> tuple[Array]:
    rows = _call.take_rows(values[:, first_column : first_column + columns], indices)
    total = sum_over_rows(scaled_rows(rows, weights, weight_rows, heads), indptr)
    return (total[first_row : first_row + num_rows].astype(values.dtype),)


_sum_op = _ffi.Op(
    name="aggregate",
    target="jaxdirect_relational_sum",
    results=_sum_results,
    num_outputs=1,
    reference=_sum_reference,
    sharding_rule=_call.replicated(2),
    batch=_call.map_batch,
    covers=covers_weights(5),
)


def list_sum(
    values: Array,
    lists: Lists,
    *,
    rows: tuple[int, int] | None = None,
    columns: tuple[int, int] | None = None,
    indices: Array | None = None,
    weights: Array | None = None,
    weight_rows: Array | None = None,
    implementation: str = "auto",
) -> Array:
    """`[num_rows, k]`: for each row the sum over its entries of `weight * values[index]`.

    Args:
        values: `[num_values, width]`.
        lists: the rows; `indices`, if given, stand for its own.
        rows: first row and number of rows of the lists to sum, default all.
        columns: first column and number of columns to sum, default all.
        weights: float32 (float64 beside that) `[num_weights, heads]`, for `heads` runs of columns.
        weight_rows: `[num_entries]`, the row of `weights` of each entry, default its own number.
        implementation: as everywhere.
    """
    first_row, num_rows = (0, lists.num_rows) if rows is None else rows
    first_column, num_columns = (0, values.shape[1]) if columns is None else columns
    none = _call.empty(jnp.float32, 1)
    (out,) = _call.call(
        _sum_op,
        values,
        lists.indptr,
        lists.indices if indices is None else indices,
        lists.items,
        lists.heavy,
        none if weights is None else weights,
        _call.empty(jnp.int32) if weight_rows is None else weight_rows,
        first_column=first_column,
        columns=num_columns,
        heads=1 if weights is None else weights.shape[1],
        first_row=first_row,
        num_rows=num_rows,
        num_partials=lists.num_partials,
        implementation=implementation,
    )
    return out


def _dot_results(platform: str, *operands: Any, heads: int) -> list:
    a, indices = operands[0], operands[3]
    return [jax.ShapeDtypeStruct((indices.shape[0], heads), _call.accumulator(a.dtype))]


def _dot_reference(
    a: Array,
    b: Array,
    indptr: Array,
    indices: Array,
    items: Array,
    heavy: Array,
    weight_rows: Array,
    *,
    heads: int,
) -> tuple[Array]:
    num_entries = indices.shape[0]
    wide = _call.accumulator(a.dtype)
    left = _call.take_rows(a, _call.row_of_entry(indptr, num_entries)).astype(wide)
    right = _call.take_rows(b, indices).astype(wide)
    return (sum_by_head(left * right, heads, weight_rows),)


_dot_op = _ffi.Op(
    name="aggregate gradient",
    target="jaxdirect_relational_dot",
    results=_dot_results,
    num_outputs=1,
    reference=_dot_reference,
    sharding_rule=_call.replicated(2),
    batch=_call.map_batch,
    covers=_call.covers_narrow,
)


def list_dot(
    a: Array,
    b: Array,
    lists: Lists,
    *,
    heads: int = 1,
    weight_rows: Array | None = None,
    implementation: str = "auto",
) -> Array:
    """`[num_entries, heads]`: `<a[row], b[index]>` of each entry over each head's columns.

    With `weight_rows`, a permutation of the entries, entry e's products go to row
    `weight_rows[e]`.
    """
    (out,) = _call.call(
        _dot_op,
        a,
        b,
        lists.indptr,
        lists.indices,
        lists.items,
        lists.heavy,
        _call.empty(jnp.int32) if weight_rows is None else weight_rows,
        heads=heads,
        implementation=implementation,
    )
    return out
