"""A sampled neighbourhood as a relational graph, planned inside the program."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxdirect.hostmem.gather import gather
from jaxdirect.hostmem.sample import SampledNeighbors
from jaxdirect.relational import _checks
from jaxdirect.relational._device_tiles import order_by_weight, tile_chunks, tiles_by_type
from jaxdirect.relational._lists import TILE, Lists, Tiles, item_rows_of, piece_of
from jaxdirect.relational._parts import Attention, Sums
from jaxdirect.relational.graph import RelGraph


def _items(num_rows: int, length: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Items, heavy rows and the number of partials for rows of `length` entries each."""
    most, rows = piece_of(num_rows * length), item_rows_of(num_rows * length)
    if length <= most:
        rows = min(rows, most // max(length, 1))
        first = np.arange(0, num_rows, rows)
        code = np.minimum(rows, num_rows - first)
        items = np.stack([first, first * length, (first + code) * length, code], 1)
        return items.astype(np.int32), np.zeros((0, 3), np.int32), 0
    pieces = -(-length // most)
    row, piece = np.divmod(np.arange(num_rows * pieces), pieces)
    begin = row * length + piece * most
    end = np.minimum(begin + most, (row + 1) * length)
    items = np.stack([row, begin, end, ~np.arange(row.size)], 1)
    first = np.arange(num_rows)
    heavy = np.stack([first, first * pieces, np.full(num_rows, pieces)], 1)
    return items.astype(np.int32), heavy.astype(np.int32), row.size


def _even_lists(indices: Array, num_rows: int, length: int) -> Lists:
    items, heavy, num_partials = _items(num_rows, length)
    indptr = jnp.asarray(np.arange(num_rows + 1, dtype=np.int32) * length)
    return Lists(indptr, indices, jnp.asarray(items), jnp.asarray(heavy), num_partials)


def _source_lists(indices: Array, num_dst: int) -> Lists:
    """Rows are sources: the destinations themselves have no entry, every other source has one."""
    num_rows = num_dst + indices.shape[0]
    indptr = np.maximum(np.arange(num_rows + 1) - num_dst, 0).astype(np.int32)
    rows = item_rows_of(indices.shape[0])
    first = np.arange(0, num_rows, rows)
    last = np.minimum(first + rows, num_rows)
    items = np.stack([first, indptr[first], indptr[last], last - first], 1).astype(np.int32)
    heavy = jnp.zeros((0, 3), jnp.int32)
    return Lists(jnp.asarray(indptr), indices, jnp.asarray(items), heavy, 0)


def _slot_lists(slots: Array, indices: Array, num_slots: int) -> tuple[Lists, Array]:
    """Rows are slots with one entry or none, and the edge of each entry."""
    num_edges = slots.shape[0]
    taken = jnp.zeros(num_slots, jnp.int32).at[slots].set(1, mode="drop")
    indptr = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(taken, dtype=jnp.int32)])
    rank = jnp.where(slots < num_slots, indptr[jnp.minimum(slots, num_slots - 1)], num_edges)
    edges = jnp.full(num_edges, -1, jnp.int32)
    edges = edges.at[rank].set(jnp.arange(num_edges, dtype=jnp.int32), mode="drop")
    far = jnp.full(num_edges, -1, jnp.int32).at[rank].set(indices, mode="drop")
    rows = item_rows_of(num_edges)
    first = jnp.arange(0, num_slots, rows, dtype=jnp.int32)
    count = jnp.full_like(first, rows)
    items = jnp.stack([first, indptr[first], indptr[first + rows], count], 1)
    return Lists(indptr, far, items, jnp.zeros((0, 3), jnp.int32), 0), edges


def _tiles(weights: Array, num_weights: int, near: Array, far: Array) -> tuple[Tiles, Array]:
    """Tiles with a slot per edge, and each edge's slot (-1 where the edge is padding)."""
    slots, weight_of, tile_indptr = order_by_weight(weights, num_weights)
    num_slots = weight_of.shape[0] * TILE
    nodes = jnp.full(num_slots, -1, jnp.int32).at[slots].set(near, mode="drop")
    lists, edges = _slot_lists(slots, far, num_slots)
    chunks, chunk_indptr = tile_chunks(tile_indptr, weight_of.shape[0])
    tiles = Tiles(
        nodes=nodes,
        weight_of=weight_of,
        far=lists,
        far_edges=edges,
        weight_tiles=jnp.arange(weight_of.shape[0], dtype=jnp.int32),
        chunks=chunks,
        chunk_indptr=chunk_indptr,
        num_direct=weight_of.shape[0],
    )
    return tiles, jnp.where(slots < num_slots, slots, -1)


def _sums(tiles: Tiles, slots: Array, relations: Array, shape: tuple[int, int]) -> Sums:
    num_dst, fanout = shape
    by_row = relations.reshape(shape)
    same = (by_row[:, :, None] == by_row[:, None, :]).sum(2).reshape(-1)
    scale = jnp.where(slots >= 0, 1 / jnp.maximum(same, 1), 0).astype(jnp.float32)
    far_scale = jnp.where(tiles.far_edges >= 0, scale[jnp.maximum(tiles.far_edges, 0)], 0)
    return Sums(
        tiles=tiles,
        into=_even_lists(slots, num_dst, fanout),
        outof=_source_lists(slots, num_dst),
        far_scale=far_scale,
        into_scale=scale,
        outof_scale=jnp.ones_like(scale),
    )


def block(
    sampled: SampledNeighbors,
    etype: Int[Array, " edges"],
    *,
    num_relations: int,
    ntype: Int[Array, " sources"] | None = None,
    num_types: int | None = None,
) -> RelGraph:
    """The relational graph of one sampled hop: one compiled program for every batch.

    Its destinations are the B nodes that were sampled for, its sources those same nodes followed
    by a row for each of the B * fanout drawn neighbours. So the rows of x are those of the seeds,
    then those of `sampled.neighbors.reshape(-1)` (any values where that is -1), and the result has
    the seeds' rows. Hops chain: the result of the outer hop's block, whose seeds were
    `[seeds, neighbours]`, is the x of the inner one's.

    Args:
        sampled: from `jaxdirect.sample_neighbors`; `[B, fanout]`, -1 where there was no neighbour.
        etype: `[num_edges]`, the relation of every edge of the sampled graph in the order of its
            `indices`, on the device or unified; an edge whose relation is out of range is left
            out.
        num_relations: number of relations.
        ntype: `[B + B * fanout]`, the type of each source row, for `hgt_conv`.
        num_types: number of node types; required with ntype.

    Returns:
        `RelGraph` with `num_dst = B` and `num_src = B + B * fanout`, for the relational
        operations; nothing about it depends on what was drawn but its arrays. Edge values are
        `[B * fanout]`, in the order of `sampled.neighbors`.

    Raises:
        TypeError: sampled is no `SampledNeighbors`.
        ValueError: sizes do not fit.

    Source: blocks as in DGL's message flow graphs; planning them on the device is this package's.

    Example:
        >>> import jax, jax.numpy as jnp, jaxdirect
        >>> from jaxdirect.relational import block, rgcn_conv
        >>> graph = jaxdirect.CSRGraph(jnp.array([0, 2, 2, 3]), jnp.array([1, 2, 0]))
        >>> hop = jaxdirect.sample_neighbors(graph, jnp.array([0, 2]), 2, jax.random.key(0))
        >>> g = block(hop, jnp.array([0, 1, 1]), num_relations=2)
        >>> rgcn_conv(g, jnp.ones((6, 1)), jnp.array([[[1.0]], [[10.0]]])).ravel()
        Array([11., 10.], dtype=float32)
    """
    if not isinstance(sampled, SampledNeighbors):
        raise TypeError(
            f"block: sampled must be a SampledNeighbors, got {type(sampled).__name__}; "
            "draw it with jaxdirect.sample_neighbors"
        )
    if sampled.neighbors.ndim != 2:
        raise ValueError(
            f"block: sampled must have one axis of seeds, got {list(sampled.neighbors.shape)}; "
            "reshape the seeds to one axis"
        )
    num_dst, fanout = sampled.neighbors.shape
    shape = (num_dst, fanout)
    num_edges = num_dst * fanout
    num_src = num_dst + num_edges
    types = 1
    if ntype is not None:
        if num_types is None:
            raise ValueError("block: ntype needs num_types, a number known when tracing")
        types = num_types
        ntype = _checks.types("block", ntype, num_src, types)
    drawn = gather(etype, sampled.edge_ids.reshape(-1), fill_value=-1).astype(jnp.int32)
    valid = (sampled.neighbors.reshape(-1) >= 0) & (drawn >= 0) & (drawn < num_relations)
    relations = jnp.where(valid, drawn, -1)
    edges = jnp.arange(num_edges, dtype=jnp.int32)
    sources = jnp.where(valid, num_dst + edges, -1)
    targets = jnp.where(valid, edges // max(fanout, 1), -1)

    tiles, slots = _tiles(relations, num_relations, sources, targets)
    dst_tiles, dst_slots = _tiles(relations, num_relations, targets, sources)
    src_tiles, src_slots = tiles, slots
    if ntype is not None:
        pairs = jnp.where(valid, relations * types + ntype[num_dst:], -1)
        # What lies in the rows of empty places, and of nodes without edges, must reach no weight.
        used = jnp.concatenate([valid.reshape(shape).any(1), valid])
        ntype = jnp.where(used, ntype, -1)
        src_tiles, src_slots = _tiles(pairs, num_relations * types, sources, targets)
    pair = np.arange(num_relations * types, dtype=np.int32)
    attention = Attention(
        src_tiles=src_tiles,
        dst_tiles=dst_tiles,
        src_slots=src_slots,
        dst_slots=dst_slots,
        far_dst_slots=dst_slots[src_tiles.far_edges],
        src_rows=_source_lists(src_slots, num_dst),
        dst_rows=_even_lists(dst_slots, num_dst, fanout),
        pair_relation=jnp.asarray(pair // types),
        pair_type=jnp.asarray(pair % types),
    )
    return RelGraph(
        edge_ids=edges,
        incoming=_even_lists(sources, num_dst, fanout),
        outgoing=_source_lists(targets, num_dst),
        outgoing_edges=edges,
        sums=_sums(tiles, slots, relations, shape),
        attention=attention,
        node_tiles=None if ntype is None else tiles_by_type(ntype, types),
        ntype=ntype,
        num_src=num_src,
        num_dst=num_dst,
        num_edges=num_edges,
        num_relations=num_relations,
        num_types=0 if ntype is None else types,
        compaction="none",
    )
