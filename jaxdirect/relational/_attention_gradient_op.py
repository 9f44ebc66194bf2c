"""The gradient of attention over lists, as a native operation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdirect import _ffi
from jaxdirect.relational import _call
from jaxdirect.relational._attention_op import ADDITIVE, scores_of, values_of
from jaxdirect.relational._lists import Lists


def _gradient_results(platform: str, *operands: Any, heads: int, **_: Any) -> list:
    rows, cotangent, indices = operands[0], operands[3], operands[7]
    wide = _call.accumulator(rows.dtype)
    return [
        jax.ShapeDtypeStruct(rows.shape, rows.dtype),
        jax.ShapeDtypeStruct((indices.shape[0], heads), wide),
        jax.ShapeDtypeStruct((cotangent.shape[0], 2 * heads), wide),
    ]


def _gradient_reference(
    rows: Array,
    queries: Array,
    query_rows: Array,
    cotangent: Array,
    out: Array,
    log_sum_exp: Array,
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
        query_of = query_rows
    valid = (indices >= 0) & (indices < cotangent.shape[0]) & (edges >= 0)
    valid &= (edges < num_entries) & (query_of >= 0) & (query_of < queries.shape[0])
    scores = scores_of(gathered, queries, query_of, score, heads, columns, negative_slope)
    log_sum = _call.take_rows(log_sum_exp, indices).astype(wide)
    by_head = (cotangent.shape[0], heads, columns // heads)
    deltas = (cotangent.astype(wide) * out.astype(wide)).reshape(by_head).sum(-1)
    shifted = jnp.where(valid[:, None], scores - log_sum, 0)
    weights = jnp.where(valid[:, None], jnp.exp(shifted), 0)
    above = _call.take_rows(cotangent, indices).astype(wide)
    values = values_of(gathered, score, columns).astype(wide)
    by_head = (num_entries, heads, columns // heads)
    products = (above * values).reshape(by_head).sum(-1)
    score_grad = weights * (products - _call.take_rows(deltas, indices))
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


def attend_gradient(
    rows: Array,
    queries: Array,
    query_rows: Array | None,
    cotangent: Array,
    out: Array,
    log_sum_exp: Array,
    far: Lists,
    edges: Array,
    *,
    score: int,
    heads: int,
    columns: int,
    negative_slope: float = 0.0,
    implementation: str = "auto",
) -> tuple[Array, Array]:
    """Gradients of the rows, and of each edge's score: float32 `[num_edges, heads]`.

    `out` and `log_sum_exp` are the forward's results. What is no edge may have any score gradient.
    """
    rows_grad, score_grad = _call.call(
        _gradient_op,
        rows,
        queries,
        _call.empty(jnp.int32) if query_rows is None else query_rows,
        cotangent,
        out,
        log_sum_exp,
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
