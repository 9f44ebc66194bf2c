"""The typed linear map over tiles, as a native operation."""

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

PRECISIONS = (jax.lax.Precision.DEFAULT, jax.lax.Precision.HIGHEST)


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
        precision=PRECISIONS[precision],
        preferred_element_type=_call.accumulator(x.dtype),
    )
    if bias.shape[0]:
        real = (nodes.reshape(num_tiles, TILE) >= 0) & known[:, None]
        out = out + jnp.where(real[:, :, None], _call.take_rows(bias, weight_of)[:, None], 0)
    out = out.astype(x.dtype).reshape(num_tiles * TILE, out.shape[2])
    if scatter:
        to = jnp.where(nodes >= 0, nodes, num_out)
        out = jnp.zeros((num_out, out.shape[1]), x.dtype).at[to].set(out, mode="drop")
    kept = jnp.concatenate(summed) if keep_summed and summed else x[:0]
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
