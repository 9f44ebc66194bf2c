"""Tiles made on the device, for types and blocks that only the running program knows."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxdirect.relational._lists import TILE, Lists, Tiles


def _ceil_div(a: Array | int, b: int) -> Array | int:
    return -(-a // b)


def order_by_weight(types: Int[Array, " rows"], num_weights: int) -> tuple[Array, Array, Array]:
    """A place in tiles of one weight each for every row, keeping the rows' order.

    Returns:
        `slots` `[rows]`, the slot of each row (out of range where the type is), `weight_of`
        `[num_tiles]` and `tile_indptr` `[num_weights + 1]`; there are
        `ceil(rows / 64) + num_weights` tiles, as many as any types may need.
    """
    num_rows = types.shape[0]
    num_tiles = num_tiles_for(num_rows, num_weights)
    known = (types >= 0) & (types < num_weights)
    types = jnp.where(known, types, num_weights).astype(jnp.int32)
    order = jnp.argsort(types, stable=True)
    counts = jnp.zeros(num_weights + 1, jnp.int32).at[types].add(1)
    begins = jnp.cumsum(counts) - counts
    tiles = _ceil_div(counts[:num_weights], TILE)
    tile_indptr = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(tiles)]).astype(jnp.int32)
    sorted_types = types[order]
    slot = tile_indptr[sorted_types] * TILE + jnp.arange(num_rows) - begins[sorted_types]
    slot = jnp.where(sorted_types < num_weights, slot, num_tiles * TILE)
    slots = jnp.zeros(num_rows, jnp.int32).at[order].set(slot.astype(jnp.int32))
    weight_of = jnp.searchsorted(tile_indptr, jnp.arange(num_tiles), side="right") - 1
    weight_of = jnp.where(weight_of < num_weights, weight_of, -1).astype(jnp.int32)
    return slots, weight_of, tile_indptr


def num_tiles_for(num_rows: int, num_weights: int) -> int:
    """Tiles that any distribution of rows over the weights fits into."""
    return int(_ceil_div(num_rows, TILE)) + num_weights


def tile_chunks(tile_indptr: Array, num_tiles: int) -> tuple[Array, Array]:
    """Chunks `[num_chunks, 3]` and their `indptr`, for tiles that are in order of their weight."""
    num_weights = tile_indptr.shape[0] - 1
    length = min(max(int(_ceil_div(num_tiles, 528)), 4), 128)
    num_chunks = int(_ceil_div(num_tiles, length)) + num_weights
    per_weight = _ceil_div(jnp.diff(tile_indptr), length)
    indptr = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(per_weight)]).astype(jnp.int32)
    number = jnp.arange(num_chunks)
    weight = jnp.searchsorted(indptr, number, side="right") - 1
    real = weight < num_weights
    weight = jnp.where(real, weight, 0)
    begin = tile_indptr[weight] + (number - indptr[weight]) * length
    end = jnp.minimum(begin + length, tile_indptr[weight + 1])
    chunks = jnp.stack([weight, begin, end], 1)
    padding = jnp.array([[-1, 0, 0]])
    return jnp.where(real[:, None], chunks, padding).astype(jnp.int32), indptr


def empty_lists(num_rows: int) -> Lists:
    """Rows without entries, of which no operation reads the items."""
    return Lists(
        indptr=jnp.zeros(num_rows + 1, jnp.int32),
        indices=jnp.zeros(0, jnp.int32),
        items=jnp.zeros((0, 4), jnp.int32),
        heavy=jnp.zeros((0, 3), jnp.int32),
        num_partials=0,
    )


def tiles_by_type(types: Int[Array, " rows"], num_weights: int) -> Tiles:
    """Tiles over rows by their type; a row of unknown type is in none."""
    num_rows = types.shape[0]
    slots, weight_of, tile_indptr = order_by_weight(types, num_weights)
    num_tiles = weight_of.shape[0]
    nodes = jnp.full(num_tiles * TILE, -1, jnp.int32)
    nodes = nodes.at[slots].set(jnp.arange(num_rows, dtype=jnp.int32), mode="drop")
    chunks, chunk_indptr = tile_chunks(tile_indptr, num_tiles)
    return Tiles(
        nodes=nodes,
        weight_of=weight_of,
        far=empty_lists(num_tiles * TILE),
        far_edges=jnp.zeros(0, jnp.int32),
        weight_tiles=jnp.arange(num_tiles, dtype=jnp.int32),
        chunks=chunks,
        chunk_indptr=chunk_indptr,
        num_direct=num_tiles,
    )
