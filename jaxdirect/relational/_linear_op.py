"""The typed linear map over tiles, as a native operation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdirect import _ffi
from jaxdirect.relational import _call
from jaxdirect.relational._lists import TILE, Tiles

PRECISIONS = (jax.lax.Precision.DEFAULT, jax.lax.Precision.HIGHEST)

# Rows of slots, and whether they are read by the slot's node, else by its own number.
SlotRows = tuple[Array, bool]


def rows_of_slots(first: SlotRows, second: SlotRows, nodes: Array, num_first: int) -> Array:
    """`[num_tiles, 64, k]`; the first `num_first` tiles read from `first`."""
    split = TILE * num_first
    parts = []
    for (data, by_node), slots in ((first, nodes[:split]), (second, nodes[split:])):
        own = jnp.where(slots >= 0, jnp.arange(slots.shape[0]), -1)
        if slots.shape[0]:
            parts.append(_call.take_rows(data, slots if by_node else own))
    empty = jnp.zeros((0, first[0].shape[1]), first[0].dtype)
    return jnp.concatenate([*parts, empty]).reshape(-1, TILE, empty.shape[1])


def second_rows(first: SlotRows, second: SlotRows | None) -> SlotRows:
    """`second`, or no rows in its place."""
    return (first[0][:0], False) if second is None else second


def _linear_results(platform: str, *operands: Any, **attributes: int) -> list:
    first, _, weight, weight_of, _ = operands
    rows = attributes["num_out"] if attributes["scatter"] else TILE * weight_of.shape[0]
    columns = weight.shape[1 if attributes["transposed"] else 2]
    return [jax.ShapeDtypeStruct((rows, columns), first.dtype)]


def _linear_reference(
    first: Array,
    second: Array,
    weight: Array,
    weight_of: Array,
    nodes: Array,
    *,
    transposed: int,
    num_first: int,
    first_by_node: int,
    second_by_node: int,
    scatter: int,
    fill: int,
    num_out: int,
    precision: int,
) -> tuple[Array]:
    num_tiles, dtype = weight_of.shape[0], first.dtype
    sides = (first, bool(first_by_node)), (second, bool(second_by_node))
    out = jnp.einsum(
        "tsj,tkj->tsk" if transposed else "tsj,tjk->tsk",
        rows_of_slots(*sides, nodes, num_first),
        _call.take_rows(weight, weight_of),
        precision=PRECISIONS[precision],
        preferred_element_type=_call.accumulator(dtype),
    )
    out = out.astype(dtype).reshape(num_tiles * TILE, out.shape[2])
    if scatter:
        to = jnp.where(nodes >= 0, nodes, num_out)
        out = jnp.zeros((num_out, out.shape[1]), dtype).at[to].set(out, mode="drop")
    return (out,)


_linear_op = _ffi.Op(
    name="typed_linear",
    target="jaxdirect_relational_linear",
    results=_linear_results,
    num_outputs=1,
    reference=_linear_reference,
    sharding_rule=_call.replicated(2),
    batch=_call.map_batch,
    covers=_call.covers,
)


def linear(
    first: SlotRows,
    weight: Array,
    tiles: Tiles,
    *,
    second: SlotRows | None = None,
    num_first: int | None = None,
    transposed: bool = False,
    num_out: int | None = None,
    precision: int = 0,
    implementation: str = "auto",
) -> Array:
    """`row(slot) @ weight[weight_of[tile]]`, `[num_slots, k]`.

    The first `num_first` tiles (default: all) read from `first`, the others from `second`. With
    `num_out` the rows go to their nodes: `[num_out, k]`.
    """
    other = second_rows(first, second)
    (out,) = _call.call(
        _linear_op,
        first[0],
        other[0],
        weight,
        tiles.weight_of,
        tiles.nodes,
        transposed=transposed,
        num_first=tiles.num_tiles if num_first is None else num_first,
        first_by_node=first[1],
        second_by_node=other[1],
        scatter=num_out is not None,
        fill=not tiles.covers_nodes,
        num_out=num_out or 0,
        precision=precision,
        implementation=implementation,
    )
    return out
