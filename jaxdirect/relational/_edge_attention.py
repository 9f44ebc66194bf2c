"""Attention in steps, for layers that need the score or the weight of every edge itself.

Memory is a number per edge and head, and compact rows. Scores and weights are float32.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdirect import _gradient
from jaxdirect.relational import _call
from jaxdirect.relational._attend import AttentionOptions, attend_dot
from jaxdirect.relational._groups import gather_permuted, group_softmax, scatter_permuted
from jaxdirect.relational._lists import TILE, Tiles
from jaxdirect.relational._pairs import (
    block_diagonal,
    by_relation,
    pad_heads,
    padded_head,
    pair_rows,
    plan_of,
    unpad_heads,
)
from jaxdirect.relational._sum_op import list_dot, list_sum
from jaxdirect.relational.edge_softmax import edge_softmax
from jaxdirect.relational.graph import RelGraph
from jaxdirect.relational.typed_linear import Options


@_gradient.custom_vjp(3)
def at_edges(rows: Array, tiles: Tiles, slots: Array, implementation: str) -> Array:
    """`[num_edges, k]`, in destination order: the row of each edge's slot in `tiles`."""
    return _call.take_rows(rows, slots)


def _at_edges_fwd(rows: Array, tiles: Tiles, slots: Array, implementation: str) -> tuple:
    return at_edges(rows, tiles, slots, implementation), tiles


def _at_edges_bwd(implementation: str, tiles: Tiles, cotangent: Array) -> tuple:
    summed = list_sum(cotangent, tiles.far, indices=tiles.far_edges, implementation=implementation)
    return summed, None, None


at_edges.defvjp(_at_edges_fwd, _at_edges_bwd)


@_gradient.custom_vjp(3)
def weighted_sum(
    rows: Float[Array, "slots k"],
    weight: Float[Array, "edges heads"],
    graph: RelGraph,
    implementation: str,
) -> Float[Array, "nodes k"]:
    """Over the in-edges of each node, the sum of `weight[edge] * rows[slot of the edge]`.

    Args:
        rows: compact rows of the graph's `attention.src_tiles`.
        weight: float32, in the caller's edge order; heads split the k columns.
        graph: the graph.
        implementation: as everywhere.
    """
    return list_sum(
        rows,
        graph.incoming,
        indices=plan_of(graph).src_slots,
        weights=weight,
        weight_rows=graph.edge_ids,
        implementation=implementation,
    )


def _weighted_fwd(rows: Array, weight: Array, graph: RelGraph, implementation: str) -> tuple:
    return weighted_sum(rows, weight, graph, implementation), (rows, weight, graph)


def _weighted_bwd(implementation: str, residual: tuple, cotangent: Array) -> tuple:
    rows, weight, graph = residual
    plan = plan_of(graph)
    rows_grad = list_sum(
        cotangent,
        plan.src_tiles.far,
        weights=weight,
        weight_rows=_call.take_rows(graph.edge_ids, plan.src_tiles.far_edges),
        implementation=implementation,
    )
    weight_grad = list_dot(
        cotangent,
        rows,
        dataclasses.replace(graph.incoming, indices=plan.src_slots),
        heads=weight.shape[1],
        weight_rows=graph.edge_ids,
        implementation=implementation,
    )
    return rows_grad, weight_grad, None


weighted_sum.defvjp(_weighted_fwd, _weighted_bwd)


def relation_softmax(graph: RelGraph, scores: Float[Array, "edges k"]) -> Float[Array, "edges k"]:
    """Softmax over the in-edges of each node and relation; scores in destination order."""
    lists, plan = graph.incoming, plan_of(graph)
    if lists.num_entries == 0:
        return scores
    valid = plan.dst_slots >= 0
    relation = _call.take_rows(plan.dst_tiles.weight_of, plan.dst_slots // TILE)
    relation = jnp.where(valid, relation, -1)
    row = _call.row_of_entry(lists.indptr, lists.num_entries)
    order = None
    if graph.num_src != graph.num_dst:
        # A block's edges come as they were drawn; elsewhere a relation's edges are neighbours.
        order = jnp.lexsort((relation, row))
        scores, relation, row = gather_permuted(scores, order), relation[order], row[order]
    starts = (row[1:] != row[:-1]) | (relation[1:] != relation[:-1])
    starts = jnp.concatenate([jnp.ones(1, bool), starts])[:, None]
    weights = group_softmax(scores, starts)
    return weights if order is None else scatter_permuted(weights, order)


@functools.partial(jax.jit, static_argnums=(5, 6, 7))
def edge_attention(
    graph: RelGraph,
    x: Float[Array, "nodes in_dim"],
    keys: Float[Array, "relations in_dim k"],
    queries: Float[Array, "relations in_dim k"],
    extra: Float[Array, "edges k"] | None,
    negative_slope: float | None,
    within: bool,
    options: Options,
) -> Float[Array, "edges k"]:
    """RGAT's attention weights, at least float32, in the caller's edge order.

    Args:
        graph: the graph.
        x: nodes' rows.
        keys: maps of the sources' rows to their part of the scores, by relation.
        queries: maps of the destinations' rows.
        extra: the edges' own part.
        negative_slope: of the rectifier of the parts' sum; None: the parts' product, as it is.
        within: whether the softmax takes each relation by itself.
        options: as in the operations.
    """
    plan, how = plan_of(graph), options.implementation
    wide = jnp.promote_types(x.dtype, jnp.float32)
    source: Any = pair_rows(x, by_relation(keys, graph), plan.src_tiles, plan.src_rows, options)
    target: Any = pair_rows(x, queries, plan.dst_tiles, plan.dst_rows, options)
    key: Any = at_edges(source, plan.src_tiles, plan.src_slots, how)
    query: Any = at_edges(target, plan.dst_tiles, plan.dst_slots, how)
    parts = [key.astype(wide), query.astype(wide)]
    if extra is not None:
        parts.append(gather_permuted(extra, graph.edge_ids).astype(wide))
    if negative_slope is None:
        scores = math.prod(parts[1:], start=parts[0])
    else:
        scores = jax.nn.leaky_relu(sum(parts[1:], start=parts[0]), negative_slope)
    # What is no edge (in a block) has no slot.
    scores = jnp.where(plan.src_slots[:, None] >= 0, scores, -jnp.inf)
    if within:
        return scatter_permuted(relation_softmax(graph, scores), graph.edge_ids)
    return edge_softmax(graph, scatter_permuted(scores, graph.edge_ids), implementation=how)


@functools.partial(jax.jit, static_argnums=(4, 5))
def weighted_values(
    graph: RelGraph,
    x: Float[Array, "nodes in_dim"],
    weight: Float[Array, "relations in_dim heads_out"],
    alpha: Float[Array, "edges heads_dim"],
    heads: int,
    options: Options,
) -> Float[Array, "nodes heads dim out"]:
    """Over each node's in-edges, the sum of `alpha[e, h, d] * (x[source] @ weight[relation])_h`."""
    plan = plan_of(graph)
    values: Any = pair_rows(x, by_relation(weight, graph), plan.src_tiles, plan.src_rows, options)
    by_head = (graph.num_edges, heads, alpha.shape[1] // heads)
    alpha = alpha.astype(jnp.float32).reshape(by_head)
    parts: list[Any] = [
        weighted_sum(values, alpha[:, :, i], graph, options.implementation)
        for i in range(alpha.shape[2])
    ]
    shape = (graph.num_dst, heads, values.shape[1] // heads)
    return jnp.stack([part.reshape(shape) for part in parts], 2)


@functools.partial(jax.jit, static_argnums=6)
def dot_attention(
    graph: RelGraph,
    keys_values: Float[Array, "nodes two_columns"],
    queries: Float[Array, "nodes columns"],
    a_rel: Float[Array, "relations heads d d"],
    m_rel: Float[Array, "relations heads d d"],
    p_rel: Float[Array, "relations heads"],
    options: Options,
) -> Float[Array, "nodes columns"]:
    """HGT's attention from the nodes' own keys, values and queries; see `hgt_conv`."""
    plan = plan_of(graph)
    heads, head = a_rel.shape[1:3]
    padded = padded_head(head, keys_values.dtype)
    scale = (p_rel / math.sqrt(head))[:, :, None, None]
    blocks = block_diagonal(jnp.concatenate([a_rel * scale, m_rel], 1).astype(a_rel.dtype))
    weight = by_relation(pad_heads(blocks, 2 * heads, head, padded), graph)
    rows = pair_rows(keys_values, weight, plan.src_tiles, plan.src_rows, options)
    attention = AttentionOptions(heads, heads * padded, 0.0, options.implementation)
    padded_queries = pad_heads(queries, heads, head, padded)
    out: Any = attend_dot(rows, padded_queries, plan, graph.incoming, attention)
    return unpad_heads(out, heads, head, padded)
