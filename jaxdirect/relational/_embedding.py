"""The typed sum over one-hot nodes: rows of the weights themselves are added up."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxdirect import _gradient
from jaxdirect.hostmem.scatter_add import scatter_add
from jaxdirect.relational import _call
from jaxdirect.relational._lists import TILE
from jaxdirect.relational._sum_op import list_sum
from jaxdirect.relational.graph import RelGraph


def _by_position(graph: RelGraph) -> tuple[Array, Array]:
    """The relation and 1 / c of each edge in destination order."""
    tiles = graph.sums.tiles
    num_edges = tiles.far.num_entries
    slots = _call.row_of_entry(tiles.far.indptr, num_edges)
    relations = _call.take_rows(tiles.weight_of, slots // TILE)
    to = jnp.where(tiles.far_edges >= 0, tiles.far_edges, num_edges)
    relation = jnp.zeros(num_edges, jnp.int32).at[to].set(relations, mode="drop")
    scale = jnp.zeros(num_edges, jnp.float32).at[to].set(graph.sums.far_scale, mode="drop")
    return relation, scale


def exact_scale(scale: Array, dtype: Any) -> Array:
    """The plan's 1 / c, which is float32, as exact as sums of `dtype` are kept."""
    if dtype != jnp.float64:
        return scale
    count = jnp.round(1 / scale.astype(jnp.float64))
    return jnp.where(scale > 0, 1 / count, 0)


def embedding_sum(weight: Array, graph: RelGraph, mean: bool, implementation: str) -> Array:
    """`[num_dst, out_dim]`: over the in-edges, the sum (or mean per relation) of `weight[r, src]`.

    Args:
        weight: `[num_relations, num_src, out_dim]`.
        graph: the graph.
        mean: whether to average the messages of each relation.
        implementation: as everywhere.
    """
    num_relations, num_nodes, columns = weight.shape
    if num_relations * num_nodes > np.iinfo(np.int32).max:
        raise ValueError(
            f"rgcn_conv: {num_relations} relations of {num_nodes} one-hot nodes are more rows than "
            "2^31 - 1; give x as learned embeddings instead"
        )
    table = weight.reshape(num_relations * num_nodes, columns)
    return _sum(table, graph, num_nodes, mean, implementation)


def _index(sources: Array, relations: Array, num_nodes: int) -> Array:
    return jnp.where(sources >= 0, relations * num_nodes + sources, -1)


@_gradient.custom_vjp(2, 3, 4)
def _sum(table: Array, graph: RelGraph, num_nodes: int, mean: bool, implementation: str) -> Array:
    relation, scale = _by_position(graph)
    scale = exact_scale(scale, table.dtype)
    lists = graph.incoming
    return list_sum(
        table,
        lists,
        indices=_index(lists.indices, relation, num_nodes),
        weights=scale[:, None] if mean else None,
        implementation=implementation,
    )


def _fwd(table: Array, graph: RelGraph, *static: int) -> tuple[Array, tuple]:
    return _sum(table, graph, *static), (table.shape[0], graph)


def _bwd(
    num_nodes: int, mean: bool, implementation: str, residual: tuple, cotangent: Array
) -> tuple[Array, None]:
    num_rows, graph = residual
    if graph.attention is None:
        raise ValueError(
            "rgcn_conv: the gradient of one-hot nodes needs the plan's attention part; build the "
            "graph with attention=True"
        )
    _, scale = _by_position(graph)
    scale = exact_scale(scale, cotangent.dtype)
    tiles = graph.attention.src_tiles
    # One row per (source, relation), from the destinations of its edges.
    rows = list_sum(
        cotangent,
        tiles.far,
        weights=_call.take_rows(scale, tiles.far_edges)[:, None] if mean else None,
        implementation=implementation,
    )
    pair = jnp.repeat(tiles.weight_of, TILE, total_repeat_length=tiles.num_slots)
    relation = _call.take_rows(graph.attention.pair_relation, pair)
    index = _index(jnp.where(pair >= 0, tiles.nodes, -1), relation, num_nodes)
    return scatter_add(rows, index, num_rows, implementation=implementation), None


_sum.defvjp(_fwd, _bwd)
