"""Attention over lists and its gradient, as native operations."""

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


def _values(rows: Array, score: int, columns: int) -> Array:
    return rows[:, :columns] if score == ADDITIVE else rows[:, columns : 2 * columns]


def _scores(
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
        jax.ShapeDtypeStruct((partials, columns + 2 * heads), jnp.float32),
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
    scores = _scores(gathered, queries, query_of, score, heads, columns, negative_slope)
    scores = jnp.where(valid[:, None], scores, -jnp.inf)
    weights, log_sum_exp = segment_softmax(scores, segments, num_nodes)
    values = _values(gathered, score, columns).astype(weights.dtype)
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


def _gradient_results(platform: str, *operands: Any, heads: int, **_: Any) -> list:
    rows, indices = operands[0], operands[6]
    return [
        jax.ShapeDtypeStruct(rows.shape, rows.dtype),
        jax.ShapeDtypeStruct((indices.shape[0], heads), _call.accumulator(rows.dtype)),
    ]


def _gradient_reference(
    rows: Array,
    queries: Array,
    query_rows: Array,
    cotangent: Array,
    stats: Array,
    indptr: Array,
    indices: Array,
    items: Array,
    edges: Array,
    *,
    score: int,
    heads: int,
    columns: int,
    num_partials: int,
    negative_slope: float,
) -> tuple[Array, Array]:
    num_slots, num_entries = rows.shape[0], indices.shape[0]
    wide = _call.accumulator(rows.dtype)
    if num_entries == 0:
        return jnp.zeros_like(rows), jnp.zeros((0, heads), wide)
    slots = _call.row_of_entry(indptr, num_entries)
    gathered = _call.take_rows(rows, slots)
    query_of = indices
    if score == ADDITIVE:
        query_of = _call.take_rows(query_rows, edges)
    valid = (indices >= 0) & (indices < cotangent.shape[0]) & (edges >= 0)
    valid &= (edges < num_entries) & (query_of >= 0) & (query_of < queries.shape[0])
    scores = _scores(gathered, queries, query_of, score, heads, columns, negative_slope)
    node_stats = _call.take_rows(stats, indices).astype(wide)
    shifted = jnp.where(valid[:, None], scores - node_stats[:, :heads], 0)
    weights = jnp.where(valid[:, None], jnp.exp(shifted), 0)
    above = _call.take_rows(cotangent, indices).astype(wide)
    values = _values(gathered, score, columns).astype(wide)
    by_head = (num_entries, heads, columns // heads)
    products = (above * values).reshape(by_head).sum(-1)
    score_grad = weights * (products - node_stats[:, heads:])
    if score == ADDITIVE:
        score_grad = jnp.where(scores > 0, score_grad, score_grad * negative_slope)
    value_grad = (above.reshape(by_head) * weights[:, :, None]).reshape(num_entries, columns)
    if score == ADDITIVE:
        padding = jnp.zeros((num_entries, rows.shape[1] - columns - heads), wide)
        parts = [value_grad, score_grad, padding]
    else:
        query = _call.take_rows(queries, indices)[:, :columns].astype(wide)
        key_grad = (query.reshape(by_head) * score_grad[:, :, None]).reshape(num_entries, columns)
        padding = jnp.zeros((num_entries, rows.shape[1] - 2 * columns), wide)
        parts = [key_grad, value_grad, padding]
    rows_grad = jax.ops.segment_sum(
        jnp.concatenate(parts, 1), slots, num_slots, indices_are_sorted=True
    )
    to = jnp.where(valid, edges, num_entries)
    by_edge = jnp.zeros((num_entries, heads), wide).at[to].set(score_grad, mode="drop")
    return rows_grad.astype(rows.dtype), by_edge


_gradient_op = _ffi.Op(
    name="attention gradient",
    target="jaxdirect_relational_attention_backward",
    results=_gradient_results,
    num_outputs=2,
    reference=_gradient_reference,
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


def attend_gradient(
    rows: Array,
    queries: Array,
    query_rows: Array | None,
    cotangent: Array,
    stats: Array,
    far: Lists,
    edges: Array,
    *,
    score: int,
    heads: int,
    columns: int,
    negative_slope: float = 0.0,
    implementation: str = "auto",
) -> tuple[Array, Array]:
    """Gradients of the rows, and of each edge's score: float32 `[num_edges, heads]`."""
    rows_grad, score_grad = _call.call(
        _gradient_op,
        rows,
        queries,
        _call.empty(jnp.int32) if query_rows is None else query_rows,
        cotangent,
        stats,
        far.indptr,
        far.indices,
        far.items,
        edges,
        score=score,
        heads=heads,
        columns=columns,
        num_partials=0,
        negative_slope=float(negative_slope),
        implementation=implementation,
    )
    return rows_grad, score_grad
