"""Compact rows: one per (node, relation) pair, from a linear map of the node's row."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdirect import _gradient
from jaxdirect.relational._call import take_rows
from jaxdirect.relational._linear_op import linear
from jaxdirect.relational._lists import Lists, Tiles
from jaxdirect.relational._outer_op import outer
from jaxdirect.relational._parts import Attention
from jaxdirect.relational._sum_op import list_sum
from jaxdirect.relational.graph import RelGraph
from jaxdirect.relational.typed_linear import Options


# `rows` lists each node's slots, for the gradient.
@_gradient.custom_vjp(4)
def pair_rows(x: Array, weight: Array, tiles: Tiles, rows: Lists, options: Options) -> Array:
    """`[num_slots, out_dim]`: `x[node] @ weight` of each slot; zero rows in padding slots."""
    return linear((x, True), weight, tiles, **dataclasses.asdict(options))


def _fwd(
    x: Array, weight: Array, tiles: Tiles, rows: Lists, options: Options
) -> tuple[Array, tuple]:
    return pair_rows(x, weight, tiles, rows, options), (x, weight, tiles, rows)


def _bwd(options: Options, residual: tuple, cotangent: Array) -> tuple[Array, Array, None, None]:
    x, weight, tiles, rows = residual
    choices = dataclasses.asdict(options)
    slots = linear((cotangent, False), weight, tiles, transposed=True, **choices)
    x_grad = list_sum(slots, rows, implementation=options.implementation)
    return x_grad, outer((x, True), (cotangent, False), tiles, **choices), None, None


pair_rows.defvjp(_fwd, _bwd)


@_gradient.custom_vjp(3)
def slot_rows(x: Array, weight: Array, tiles: Tiles, options: Options) -> Array:
    """`[num_slots, out_dim]`: `x[slot] @ weight` of each slot; zero rows in padding slots."""
    return linear((x, False), weight, tiles, **dataclasses.asdict(options))


def _slot_fwd(x: Array, weight: Array, tiles: Tiles, options: Options) -> tuple[Array, tuple]:
    return slot_rows(x, weight, tiles, options), (x, weight, tiles)


def _slot_bwd(options: Options, residual: tuple, cotangent: Array) -> tuple[Array, Array, None]:
    x, weight, tiles = residual
    choices = dataclasses.asdict(options)
    x_grad = linear((cotangent, False), weight, tiles, transposed=True, **choices)
    return x_grad, outer((x, False), (cotangent, False), tiles, **choices), None


slot_rows.defvjp(_slot_fwd, _slot_bwd)


@_gradient.custom_vjp()
def lookup(table: Array, index: Array) -> Array:
    """Rows of a small table, with a gradient that is summed in a fixed order."""
    return take_rows(table, index)


def _lookup_fwd(table: Array, index: Array) -> tuple[Array, tuple[Array, int]]:
    return lookup(table, index), (index, table.shape[0])


def _lookup_bwd(residual: tuple[Array, int], cotangent: Array) -> tuple[Array, None]:
    index, num_rows = residual
    # A product with zeros and ones instead of a scatter, whose order is not fixed on a GPU.
    chosen = (index[:, None] == jnp.arange(num_rows)[None]).astype(cotangent.dtype)
    if num_rows == 1:  # where a sum is faster
        chosen = chosen.reshape(-1, *(1,) * (cotangent.ndim - 1))
        return (cotangent * chosen).sum(0, keepdims=True), None
    precision = jax.lax.Precision.HIGHEST
    return jnp.tensordot(chosen, cotangent, axes=(0, 0), precision=precision), None


lookup.defvjp(_lookup_fwd, _lookup_bwd)


def plan_of(graph: RelGraph) -> Attention:
    """The attention part of a graph that must have one."""
    if graph.attention is None:
        raise ValueError("attention: the graph has no attention part; build it with attention=True")
    return graph.attention


def by_relation(table: Array, graph: RelGraph) -> Array:
    """A relation's row of `table` for each weight of the source tiles."""
    plan = plan_of(graph)
    # Every relation is there: with as many pairs as relations, pair r is relation r.
    if plan.pair_relation.shape[0] == graph.num_relations:
        return table
    return lookup(table, plan.pair_relation)


def add_bias(rows: Array, bias: Array, tiles: Tiles) -> Array:
    """`rows` `[num_slots, k]` plus the bias `[num_weights, k]` of each tile's weight."""
    by_tile = rows.reshape(tiles.num_tiles, -1, rows.shape[1])
    return (by_tile + lookup(bias, tiles.weight_of)[:, None]).reshape(rows.shape)


def block_diagonal(blocks: Array) -> Array:
    """`[n, heads, d, e]` to `[n, heads * d, heads * e]`, zero where heads would mix."""
    n, heads, rows, columns = blocks.shape
    dense = jnp.einsum("nhde,hg->nhdge", blocks, jnp.eye(heads, dtype=blocks.dtype))
    return dense.reshape(n, heads * rows, heads * columns)


def pad_columns(array: Array, width: int) -> Array:
    """Zero columns behind the last axis, up to `width`."""
    padding = [(0, 0)] * (array.ndim - 1) + [(0, width - array.shape[-1])]
    return jnp.pad(array, padding) if width > array.shape[-1] else array


def padded_head(columns: int, dtype: Any) -> int:
    """The columns that a head takes in the kernels: 16 bytes times a power of two."""
    vector = 16 // min(jnp.dtype(dtype).itemsize, 4)
    lanes = max(1, -(-columns // vector))
    return vector * (1 << (lanes - 1).bit_length())


def pad_heads(array: Array, heads: int, head: int, padded: int) -> Array:
    """`[..., heads * head]` to `[..., heads * padded]` with zero columns behind each head."""
    if head == padded:
        return array
    split = array.reshape(*array.shape[:-1], heads, head)
    return pad_columns(split, padded).reshape(*array.shape[:-1], heads * padded)


def unpad_heads(array: Array, heads: int, head: int, padded: int) -> Array:
    """The inverse of `pad_heads`."""
    if head == padded:
        return array
    split = array.reshape(*array.shape[:-1], heads, padded)[..., :head]
    return split.reshape(*array.shape[:-1], heads * head)
