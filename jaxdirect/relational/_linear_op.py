"""The typed linear map over tiles and its weight gradient, as native operations."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdirect import _ffi
from jaxdirect.relational import _call
from jaxdirect.relational._lists import TILE, Tiles

# Where a slot's row comes from: x[node], the sum over its far list, or x[slot].
NODE, LIST, OWN = 0, 1, 2

_PRECISIONS = (jax.lax.Precision.DEFAULT, jax.lax.Precision.HIGHEST)


def _summed_rows(num_tiles: int, num_first: int, first: int, second: int) -> int:
    tiles = (num_first if first == LIST else 0) + (num_tiles - num_first if second == LIST else 0)
    return TILE * tiles


def _linear_results(platform: str, *operands: Any, **attributes: int) -> list:
    x, weight, _, weight_of, *_ = operands
    num_tiles = weight_of.shape[0]
    summed = _summed_rows(num_tiles, *(attributes[k] for k in ("num_first", "first", "second")))
    rows = attributes["num_out"] if attributes["scatter"] else TILE * num_tiles
    kept = summed if attributes["keep_summed"] else 0
    return [
        jax.ShapeDtypeStruct((rows, weight.shape[1 if attributes["transposed"] else 2]), x.dtype),
        jax.ShapeDtypeStruct((kept, x.shape[1]), x.dtype),
    ]


def _list_rows(x: Array, indptr: Array, indices: Array, scale: Array) -> Array:
    rows = _call.take_rows(x, indices).astype(_call.accumulator(x.dtype))
    if scale.shape[0]:
        rows = rows * scale[:, None].astype(rows.dtype)
    segments = _call.row_of_entry(indptr, indices.shape[0])
    total = jax.ops.segment_sum(rows, segments, indptr.shape[0] - 1, indices_are_sorted=True)
    return total.astype(x.dtype)


def _linear_reference(
    x: Array,
    weight: Array,
    bias: Array,
    weight_of: Array,
    nodes: Array,
    indptr: Array,
    indices: Array,
    scale: Array,
    *,
    transposed: int,
    num_first: int,
    first: int,
    second: int,
    scatter: int,
    num_out: int,
    keep_summed: int,
    precision: int,
) -> tuple[Array, Array]:
    num_tiles = weight_of.shape[0]
    split = TILE * num_first
    lists = _list_rows(x, indptr, indices, scale) if LIST in (first, second) else None

    def rows_of(source: int, slots: slice) -> Array:
        if source == LIST and lists is not None:
            return lists[slots]
        return x[slots] if source == OWN else _call.take_rows(x, nodes[slots])

    parts = [rows_of(first, slice(0, split)), rows_of(second, slice(split, TILE * num_tiles))]
    sources = (first, second)
    summed = [part for part, source in zip(parts, sources, strict=True) if source == LIST]
    rows = jnp.concatenate(parts) if 0 < num_first < num_tiles else parts[0 if num_first else 1]

    known = (weight_of >= 0) & (weight_of < weight.shape[0])
    matrices = _call.take_rows(weight, weight_of)
    out = jnp.einsum(
        "tsj,tkj->tsk" if transposed else "tsj,tjk->tsk",
        rows.reshape(num_tiles, TILE, x.shape[1]),
        matrices,
        precision=_PRECISIONS[precision],
        preferred_element_type=_call.accumulator(x.dtype),
    )
    if bias.shape[0]:
        real = (nodes.reshape(num_tiles, TILE) >= 0) & known[:, None]
        out = out + jnp.where(real[:, :, None], _call.take_rows(bias, weight_of)[:, None], 0)
    out = out.astype(x.dtype).reshape(num_tiles * TILE, out.shape[2])
    if scatter:
        to = jnp.where(nodes >= 0, nodes, num_out)
        out = jnp.zeros((num_out, out.shape[1]), x.dtype).at[to].set(out, mode="drop")
    kept = jnp.concatenate(summed) if keep_summed and summed else jnp.zeros((0, x.shape[1]))
    return out, kept.astype(x.dtype)


def _covers_scale(platform: str, *operands: Any, **_: Any) -> bool:
    return operands[-1].dtype == jnp.float32 and _call.covers(platform, operands[0])


_linear_op = _ffi.Op(
    name="typed_linear",
    target="jaxdirect_relational_linear",
    results=_linear_results,
    num_outputs=2,
    reference=_linear_reference,
    sharding_rule=_call.replicated(2, 2),
    batch=_call.map_batch,
    covers=_covers_scale,
)


def linear(
    x: Array,
    weight: Array,
    tiles: Tiles,
    *,
    first: int = NODE,
    second: int = NODE,
    num_first: int | None = None,
    bias: Array | None = None,
    scale: Array | None = None,
    transposed: bool = False,
    num_out: int | None = None,
    keep_summed: bool = False,
    precision: int = 0,
    implementation: str = "auto",
) -> tuple[Array, Array]:
    """`row(slot) @ weight[weight_of[tile]] + bias`, and the rows that were sums of lists.

    The first `num_first` tiles (default: all) read from `first`, the others from `second`. With
    `num_out` the rows go to their nodes: `[num_out, k]`; else `[num_slots, k]`.
    """
    return _call.call(
        _linear_op,
        x,
        weight,
        _call.empty(x.dtype, 1) if bias is None else bias,
        tiles.weight_of,
        tiles.nodes,
        tiles.far.indptr,
        tiles.far.indices,
        _call.empty(jnp.float32) if scale is None else scale,
        transposed=transposed,
        num_first=tiles.num_tiles if num_first is None else num_first,
        first=first,
        second=second,
        scatter=num_out is not None,
        num_out=num_out or 0,
        keep_summed=keep_summed,
        precision=precision,
        implementation=implementation,
    )


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
    split = TILE * num_first

    def rows(first: Array, first_by_node: int, second: Array, second_by_node: int) -> Array:
        sides = ((first, first_by_node, nodes[:split]), (second, second_by_node, nodes[split:]))
        parts = []
        for data, by_node, slots in sides:
            if slots.shape[0] == 0:
                continue
            own = jnp.where(slots >= 0, jnp.arange(slots.shape[0]), -1)
            parts.append(_call.take_rows(data, slots if by_node else own))
        joined = jnp.concatenate(parts) if parts else jnp.zeros((0, first.shape[1]), first.dtype)
        return joined.reshape(num_tiles, TILE, first.shape[1])

    a = rows(a_first, a_first_by_node, a_second, a_second_by_node)
    b = rows(b_first, b_first_by_node, b_second, b_second_by_node)
    products = jnp.einsum(
        "tsj,tsk->tjk",
        _call.take_rows(a, weight_tiles),
        _call.take_rows(b, weight_tiles),
        precision=_PRECISIONS[precision],
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
    a: tuple[Array, bool],
    b: tuple[Array, bool],
    tiles: Tiles,
    *,
    a_second: tuple[Array, bool] | None = None,
    b_second: tuple[Array, bool] | None = None,
    num_first: int | None = None,
    precision: int = 0,
    implementation: str = "auto",
) -> Array:
    """`[num_weights, j, k]`: the sum of `a(slot)^T b(slot)` over each weight's slots.

    Each side is rows and whether they are read by node, else by slot; the second sides are those
    of the tiles behind the first `num_first` (default: all).
    """
    a_second = (a[0][:0], False) if a_second is None else a_second
    b_second = (b[0][:0], False) if b_second is None else b_second
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
