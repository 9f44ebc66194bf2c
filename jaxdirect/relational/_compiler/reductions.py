"""Sums, maxima and softmax over the in-edges of a node, of values in destination order."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array

from jaxdirect import _gradient
from jaxdirect.relational import _call
from jaxdirect.relational._compiler import domains
from jaxdirect.relational._edge_attention import weighted_sum
from jaxdirect.relational._largest_op import list_max
from jaxdirect.relational._lists import TILE
from jaxdirect.relational._pairs import plan_of
from jaxdirect.relational._sum_op import list_dot, list_sum
from jaxdirect.relational.aggregate import in_degree, weighted_neighbours
from jaxdirect.relational.edge_softmax import edge_softmax
from jaxdirect.relational.graph import RelGraph


def in_destination_order(graph: RelGraph) -> RelGraph:
    """The graph as if its edges had been given in destination order."""
    positions = jnp.arange(graph.num_edges, dtype=jnp.int32)
    return dataclasses.replace(graph, edge_ids=positions)


def valid(graph: RelGraph) -> Array:
    """Which positions are edges."""
    lists = graph.incoming
    row = _call.row_of_entry(lists.indptr, lists.num_entries)
    return (row < graph.num_dst) & (lists.indices >= 0)


def _positions(graph: RelGraph) -> Array:
    """What an entry of the in-edges reads of values by edge; nothing where there is none."""
    positions = jnp.arange(graph.num_edges, dtype=jnp.int32)
    return jnp.where(graph.incoming.indices >= 0, positions, -1) if graph.has_gaps else positions


@_gradient.custom_vjp(2)
def sum_edges(values: Array, graph: RelGraph, implementation: str) -> Array:
    """`[num_dst, k]` of `[num_edges, k]`."""
    return list_sum(
        values, graph.incoming, indices=_positions(graph), implementation=implementation
    )


def _sum_bwd(implementation: str, graph: RelGraph, cotangent: Array) -> tuple:
    lists = graph.incoming
    row = _call.row_of_entry(lists.indptr, lists.num_entries)
    back = _call.take_rows(cotangent, jnp.where(valid(graph), row, -1))
    return back, None


sum_edges.defvjp(lambda values, graph, how: (sum_edges(values, graph, how), graph), _sum_bwd)


def sum_rows(
    rows: Array, weight: Array, graph: RelGraph, of_pairs: bool, implementation: str
) -> Array:
    """`[num_dst, k]`: the sum of `weight[p] * rows[source or pair of p]`; heads split k."""
    wide = weight.astype(_call.accumulator(rows.dtype))
    run = weighted_sum if of_pairs else weighted_neighbours
    return run(rows, wide, in_destination_order(graph), implementation)


def _near_of_edge(graph: RelGraph, kind: str) -> Array:
    """`[num_edges]`, the row that each position reads of rows of a kind."""
    if kind == domains.SOURCES:
        return graph.incoming.indices
    return _positions(graph) if kind == domains.EDGES else plan_of(graph).src_slots


@_gradient.custom_vjp(3, 4)
def sum_into_pairs(
    rows: Array, weight: Array, graph: RelGraph, kind: str, implementation: str
) -> Array:
    """`[slots, k]` of destination pairs: over their edges the sum of `weight[p] * rows[of p]`.

    Args:
        rows: of sources, of source pairs or of edges.
        weight: `[num_edges, heads]`, in destination order; heads split k.
        graph: the graph.
        kind: of the rows' domain.
        implementation: as everywhere.
    """
    tiles = plan_of(graph).dst_tiles
    return list_sum(
        rows,
        tiles.far,
        indices=_call.take_rows(_near_of_edge(graph, kind), tiles.far_edges),
        weights=weight,
        weight_rows=tiles.far_edges,
        implementation=implementation,
    )


def _into_pairs_bwd(kind: str, implementation: str, residual: tuple, cotangent: Array) -> tuple:
    rows, weight, graph = residual
    plan = plan_of(graph)
    if kind == domains.EDGES:
        spread = _call.take_rows(cotangent, plan.dst_slots)
        by_head = spread.reshape(
            spread.shape[0], weight.shape[1], spread.shape[1] // weight.shape[1]
        )
        rows_grad = (by_head * weight[:, :, None]).reshape(spread.shape).astype(rows.dtype)
    else:
        lists, edges = graph.outgoing, graph.outgoing_edges
        if kind == domains.SOURCE_PAIRS:
            lists, edges = plan.src_tiles.far, plan.src_tiles.far_edges
        rows_grad = list_sum(
            cotangent,
            lists,
            indices=_call.take_rows(plan.dst_slots, edges),
            weights=weight,
            weight_rows=edges,
            implementation=implementation,
        )
    tiles = plan.dst_tiles
    read = _call.take_rows(_near_of_edge(graph, kind), tiles.far_edges)
    weight_grad = list_dot(
        cotangent,
        rows,
        dataclasses.replace(tiles.far, indices=read),
        heads=weight.shape[1],
        weight_rows=tiles.far_edges,
        implementation=implementation,
    )
    return rows_grad, weight_grad, None


sum_into_pairs.defvjp(
    lambda rows, weight, graph, kind, how: (
        sum_into_pairs(rows, weight, graph, kind, how),
        (rows, weight, graph),
    ),
    _into_pairs_bwd,
)


@_gradient.custom_vjp(2)
def sum_pairs(rows: Array, graph: RelGraph, implementation: str) -> Array:
    """`[num_dst, k]` of the rows of destination pairs."""
    return list_sum(rows, plan_of(graph).dst_rows, implementation=implementation)


sum_pairs.defvjp(
    lambda rows, graph, how: (sum_pairs(rows, graph, how), graph),
    lambda how, graph, cotangent: (
        _call.take_rows(cotangent, plan_of(graph).dst_tiles.nodes),
        None,
    ),
)


@_gradient.custom_vjp(2)
def max_edges(values: Array, graph: RelGraph, implementation: str) -> Array:
    """`[num_dst, k]` of `[num_edges, k]`; 0 without edges."""
    return _max_fwd(values, graph, implementation)[0]


def _max_fwd(values: Array, graph: RelGraph, implementation: str) -> tuple:
    lists = dataclasses.replace(graph.incoming, indices=_positions(graph))
    out, winners = list_max(values, lists, implementation=implementation)
    return out, (winners, graph)


def _max_bwd(implementation: str, residual: tuple, cotangent: Array) -> tuple:
    winners, graph = residual
    lists = graph.incoming
    row = jnp.where(valid(graph), _call.row_of_entry(lists.indptr, lists.num_entries), -1)
    won = _call.take_rows(winners, row) == jnp.arange(lists.num_entries)[:, None]
    return jnp.where(won & (row >= 0)[:, None], _call.take_rows(cotangent, row), 0), None


max_edges.defvjp(_max_fwd, _max_bwd)


def softmax(scores: Array, graph: RelGraph, implementation: str) -> Array:
    """`[num_edges, k]`: shares over a node's in-edges."""
    scores = jnp.where(valid(graph)[:, None], scores, 0)
    return edge_softmax(in_destination_order(graph), scores, implementation=implementation)


def shares_of_relation(graph: RelGraph, dtype) -> Array:
    """`[num_edges, 1]`: 1 over the number of edges of the relation into the destination."""
    plan = plan_of(graph)
    tiles = plan.dst_tiles
    weight, edges = jnp.repeat(tiles.weight_of, TILE), jnp.diff(tiles.far.indptr)
    if not edges.shape[0]:
        return jnp.zeros((graph.num_edges, 1), dtype)
    # The slots of a pair, if it has several, are neighbours.
    same = (tiles.nodes[1:] == tiles.nodes[:-1]) & (weight[1:] == weight[:-1])
    pair = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(~same, dtype=jnp.int32)])
    of_pair = jnp.zeros_like(edges).at[pair].add(edges)
    share = 1 / jnp.maximum(of_pair[pair], 1).astype(jnp.float32)
    return _call.take_rows(share[:, None], plan.dst_slots).astype(dtype)


def degree(graph: RelGraph) -> Array:
    """`[num_dst]`, 1 where no edge comes in."""
    return jnp.maximum(in_degree(graph), 1)
