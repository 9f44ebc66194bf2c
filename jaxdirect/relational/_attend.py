"""Attention over all in-edges of a node, with its gradient."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array

from jaxdirect import _gradient
from jaxdirect.relational._attention_gradient_op import attend_gradient
from jaxdirect.relational._attention_op import ADDITIVE, DOT, attend
from jaxdirect.relational._lists import Lists
from jaxdirect.relational._parts import Attention
from jaxdirect.relational._sum_op import list_sum


@dataclasses.dataclass(frozen=True)
class AttentionOptions:
    """Static numbers of an attention: `columns` are those of all heads together."""

    heads: int
    columns: int
    negative_slope: float
    implementation: str


@_gradient.custom_vjp(4)
def attend_additive(
    rows: Array, queries: Array, plan: Attention, incoming: Lists, options: AttentionOptions
) -> Array:
    """RGAT's attention: `rows` `[slots, values | parts]`, `queries` `[slots, parts]`."""
    return _additive_forward(rows, queries, plan, incoming, options)[0]


def _additive_forward(
    rows: Array, queries: Array, plan: Attention, incoming: Lists, options: AttentionOptions
) -> tuple[Array, Array]:
    choices = dataclasses.asdict(options)
    slots, query_rows = plan.src_slots, plan.dst_slots
    return attend(rows, queries, query_rows, incoming, slots, score=ADDITIVE, **choices)


def _additive_fwd(
    rows: Array, queries: Array, plan: Attention, incoming: Lists, options: AttentionOptions
) -> tuple[Array, tuple]:
    out, log_sum_exp = _additive_forward(rows, queries, plan, incoming, options)
    return out, (rows, queries, plan, out, log_sum_exp)


def _additive_bwd(options: AttentionOptions, residual: tuple, cotangent: Array) -> tuple:
    rows, queries, plan, out, log_sum_exp = residual
    rows_grad, score_grad = attend_gradient(
        rows,
        queries,
        plan.far_dst_slots,
        cotangent,
        out,
        log_sum_exp,
        plan.src_tiles.far,
        plan.src_tiles.far_edges,
        score=ADDITIVE,
        **dataclasses.asdict(options),
    )
    # Every in-edge of a relation has the same query.
    far = plan.dst_tiles.far
    queries_grad = list_sum(
        score_grad,
        far,
        indices=plan.dst_tiles.far_edges,
        implementation=options.implementation,
    )
    padding = ((0, 0), (0, queries.shape[1] - options.heads))
    return rows_grad, jnp.pad(queries_grad, padding).astype(queries.dtype), None, None


attend_additive.defvjp(_additive_fwd, _additive_bwd)


@_gradient.custom_vjp(4)
def attend_dot(
    rows: Array, queries: Array, plan: Attention, incoming: Lists, options: AttentionOptions
) -> Array:
    """HGT's attention: `rows` `[slots, keys | values]`, `queries` `[num_dst, columns]`."""
    return _dot_forward(rows, queries, plan, incoming, options)[0]


def _dot_forward(
    rows: Array, queries: Array, plan: Attention, incoming: Lists, options: AttentionOptions
) -> tuple[Array, Array]:
    choices = dataclasses.asdict(options)
    return attend(rows, queries, None, incoming, plan.src_slots, score=DOT, **choices)


def _dot_fwd(
    rows: Array, queries: Array, plan: Attention, incoming: Lists, options: AttentionOptions
) -> tuple[Array, tuple]:
    out, log_sum_exp = _dot_forward(rows, queries, plan, incoming, options)
    return out, (rows, queries, plan, incoming, out, log_sum_exp)


def _dot_bwd(options: AttentionOptions, residual: tuple, cotangent: Array) -> tuple:
    rows, queries, plan, incoming, out, log_sum_exp = residual
    rows_grad, score_grad = attend_gradient(
        rows,
        queries,
        None,
        cotangent,
        out,
        log_sum_exp,
        plan.src_tiles.far,
        plan.src_tiles.far_edges,
        score=DOT,
        **dataclasses.asdict(options),
    )
    queries_grad = list_sum(
        rows,
        incoming,
        columns=(0, options.columns),
        indices=plan.src_slots,
        weights=score_grad,
        implementation=options.implementation,
    )
    return rows_grad, queries_grad, None, None


attend_dot.defvjp(_dot_fwd, _dot_bwd)
