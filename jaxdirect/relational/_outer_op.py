"""The weight gradient of the typed linear map, as a native operation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdirect import _ffi
from jaxdirect.relational import _call
from jaxdirect.relational._linear_op import PRECISIONS, SlotRows, rows_of_slots, second_rows
from jaxdirect.relational._lists import Tiles


def _outer_results(platform: str, *operands: Any, **_: int) -> list:
    a, _, b, _, _, _, chunks, chunk_indptr = operands
    size = (a.shape[1], b.shape[1])
    partials = chunks.shape[0] if platform == "cuda" else 0
    return [
        jax.ShapeDtypeStruct((chunk_indptr.shape[0] - 1, *size), a.dtype),
        jax.ShapeDtypeStruct((partials, *size), jnp.float32),
    ]


def _outer_reference(
    a_first: Array,
    a_second: Array,
    b_first: Array,
    b_second: Array,
    nodes: Array,
    weight_tiles: Array,
    chunks: Array,
    chunk_indptr: Array,
    *,
    num_first: int,
    a_first_by_node: int,
    a_second_by_node: int,
    b_first_by_node: int,
    b_second_by_node: int,
    precision: int,
) -> tuple[Array]:
    num_tiles = weight_tiles.shape[0]
    a_sides = (a_first, bool(a_first_by_node)), (a_second, bool(a_second_by_node))
    b_sides = (b_first, bool(b_first_by_node)), (b_second, bool(b_second_by_node))
    a = rows_of_slots(*a_sides, nodes, num_first)
    b = rows_of_slots(*b_sides, nodes, num_first)
    products = jnp.einsum(
        "tsj,tsk->tjk",
        _call.take_rows(a, weight_tiles),
        _call.take_rows(b, weight_tiles),
        precision=PRECISIONS[precision],
        preferred_element_type=_call.accumulator(a.dtype),
    )
    # A chunk's tiles follow its first; weights ascend.
    num_weights = chunk_indptr.shape[0] - 1
    starts = jnp.where(chunks[:, 0] >= 0, chunks[:, 1], num_tiles)
    weights = jnp.full(num_tiles, -1, jnp.int32).at[starts].set(chunks[:, 0], mode="drop")
    segments = jax.lax.cummax(weights) if num_tiles else weights
    total = jax.ops.segment_sum(products, segments, num_weights, indices_are_sorted=True)
    return (total.astype(a_first.dtype),)


_outer_op = _ffi.Op(
    name="typed_linear gradient",
    target="jaxdirect_relational_outer",
    results=_outer_results,
    num_outputs=1,
    reference=_outer_reference,
    sharding_rule=_call.replicated(3),
    batch=_call.map_batch,
    covers=_call.covers,
)


def outer(
    a: SlotRows,
    b: SlotRows,
    tiles: Tiles,
    *,
    a_second: SlotRows | None = None,
    b_second: SlotRows | None = None,
    num_first: int | None = None,
    precision: int = 0,
    implementation: str = "auto",
) -> Array:
    """`[num_weights, j, k]`: the sum of `a(slot)^T b(slot)` over each weight's slots.

    The second sides are those of the tiles behind the first `num_first` (default: all).
    """
    a_second, b_second = second_rows(a, a_second), second_rows(b, b_second)
    (out,) = _call.call(
        _outer_op,
        a[0],
        a_second[0],
        b[0],
        b_second[0],
        tiles.nodes,
        tiles.weight_tiles,
        tiles.chunks,
        tiles.chunk_indptr,
        num_first=tiles.num_tiles if num_first is None else num_first,
        a_first_by_node=a[1],
        a_second_by_node=a_second[1],
        b_first_by_node=b[1],
        b_second_by_node=b_second[1],
        precision=precision,
        implementation=implementation,
    )
    return out
