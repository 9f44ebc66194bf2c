"""Attention over lists, as a native operation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdirect import _ffi
from jaxdirect.relational import _call
from jaxdirect.relational._lists import Lists

# How a score comes about: see ffi/relational/attention.h.
ADDITIVE, DOT = 0, 1


def values_of(rows: Array, score: int, columns: int) -> Array:
    return rows[:, :columns] if score == ADDITIVE else rows[:, columns : 2 * columns]


def scores_of(
    rows: Array, queries: Array, query_of: Array, score: int, heads: int, columns: int, slope: float
) -> Array:
    """`[num_entries, heads]`, from gathered rows and the queries' rows; before the rectifier."""
    wide = _call.accumulator(rows.dtype)
    query = _call.take_rows(queries, query_of).astype(wide)
    if score == ADDITIVE:
        sums = rows[:, columns : columns + heads].astype(wide) + query[:, :heads]
        return jnp.where(sums > 0, sums, sums * slope)
    products = query[:, :columns] * rows[:, :columns].astype(wide)
    return products.reshape(rows.shape[0], heads, columns // heads).sum(-1)


def segment_softmax(scores: Array, segments: Array, num_rows: int) -> tuple[Array, Array]:
    """The softmax of `scores` `[num_entries, heads]` in each segment, and the log-sum-exp.

    Entries of -inf count nothing; a segment of nothing else has log-sum-exp 0.
    """
    largest = jax.ops.segment_max(scores, segments, num_rows, indices_are_sorted=True)
    largest = jax.lax.stop_gradient(jnp.where(largest > -jnp.inf, largest, 0))
    counted = scores > -jnp.inf
    shifted = jnp.where(counted, scores - _call.take_rows(largest, segments), 0)
    weights = jnp.where(counted, jnp.exp(shifted), 0)
    total = jax.ops.segment_sum(weights, segments, num_rows, indices_are_sorted=True)
    safe = jnp.where(total > 0, total, 1)
    log_sum_exp = jnp.where(total > 0, largest + jnp.log(safe), 0)
    return weights / jnp.where(total > 0, total, 1)[segments.clip(0, num_rows - 1)], log_sum_exp


def _results(platform: str, *operands: Any, heads: int, columns: int, **attributes: Any) -> list:
    rows, _, _, indptr, *_rest = operands
    num_nodes = indptr.shape[0] - 1
    partials = attributes["num_partials"] if platform == "cuda" else 0
    return [
        jax.ShapeDtypeStruct((num_nodes, columns), rows.dtype),
        jax.ShapeDtypeStruct((num_nodes, heads), _call.accumulator(rows.dtype)),
        # As partial_width in ffi/relational/attention.h.
        jax.ShapeDtypeStruct((partials, columns + -(-heads // 2) * 4), jnp.float32),
    ]


def _reference(
    rows: Array,
    queries: Array,
    query_rows: Array,
    indptr: Array,
    indices: Array,
    items: Array,
    heavy: Array,
    *,
    score: int,
    heads: int,
    columns: int,
    num_partials: int,
    negative_slope: float,
) -> tuple[Array, Array]:
    num_nodes, num_entries = indptr.shape[0] - 1, indices.shape[0]
    wide = _call.accumulator(rows.dtype)
    if num_entries == 0 or rows.shape[0] == 0:
        return jnp.zeros((num_nodes, columns), rows.dtype), jnp.zeros((num_nodes, heads), wide)
    segments = _call.row_of_entry(indptr, num_entries)
    query_of = query_rows if score == ADDITIVE else segments
    valid = (indices >= 0) & (indices < rows.shape[0])
    valid &= (query_of >= 0) & (query_of < queries.shape[0])
    gathered = _call.take_rows(rows, indices)
    scores = scores_of(gathered, queries, query_of, score, heads, columns, negative_slope)
    scores = jnp.where(valid[:, None], scores, -jnp.inf)
    weights, log_sum_exp = segment_softmax(scores, segments, num_nodes)
    values = values_of(gathered, score, columns).astype(weights.dtype)
    messages = values.reshape(num_entries, heads, columns // heads) * weights[:, :, None]
    messages = messages.reshape(num_entries, columns)
    out = jax.ops.segment_sum(messages, segments, num_nodes, indices_are_sorted=True)
    return out.astype(rows.dtype), log_sum_exp


_op = _ffi.Op(
    name="attention",
    target="jaxdirect_relational_attention",
    results=_results,
    num_outputs=2,
    reference=_reference,
    sharding_rule=_call.replicated(2, 2),
    batch=_call.map_batch,
    covers=_call.covers_narrow,
)


def attend(
    rows: Array,
    queries: Array,
    query_rows: Array | None,
    lists: Lists,
    slots: Array,
    *,
    score: int,
    heads: int,
    columns: int,
    negative_slope: float = 0.0,
    implementation: str = "auto",
) -> tuple[Array, Array]:
    """`[num_nodes, columns]` and the log-sum-exp `[num_nodes, heads]` (float32).

    `slots` are the rows of the entries of `lists`; see ffi/relational/attention.h.
    """
    out, log_sum_exp = _call.call(
        _op,
        rows,
        queries,
        _call.empty(jnp.int32) if query_rows is None else query_rows,
        lists.indptr,
        slots,
        lists.items,
        lists.heavy,
        score=score,
        heads=heads,
        columns=columns,
        num_partials=lists.num_partials,
        negative_slope=float(negative_slope),
        implementation=implementation,
    )
    return out, log_sum_exp
