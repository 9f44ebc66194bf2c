"""Neighbour sampling in plain JAX: the native sampler's oracle."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxdirect import _compat
from jaxdirect.hostmem import _philox

_MAX_DEGREE = np.iinfo(np.int32).max


def edge_dtype(num_edges: int) -> Any:
    """The dtype of edge ids."""
    return jnp.int64 if num_edges > np.iinfo(np.int32).max else jnp.int32


def _lists(indptr: Array, num_edges: int, seeds: Array) -> tuple[Array, Array]:
    """Start and degree of each seed's list; no list where the graph leads outside."""
    num_nodes = indptr.shape[0] - 1
    if num_nodes == 0 or num_edges == 0:
        return jnp.zeros(seeds.shape, indptr.dtype), jnp.zeros(seeds.shape, jnp.int32)
    is_node = (seeds >= 0) & (seeds < num_nodes)
    node = jnp.where(is_node, seeds, 0)
    start, stop = jnp.take(indptr, node), jnp.take(indptr, node + 1)
    valid = is_node & (start >= 0) & (stop >= start) & (stop <= num_edges)
    degree = jnp.where(valid, jnp.minimum(stop - start, _MAX_DEGREE), 0)
    return jnp.where(valid, start, 0), degree.astype(jnp.int32)


def _floyd(low: Array, high: Array, degree: Array, fanout: int) -> Array:
    """Distinct offsets below each degree, which is above the fanout."""
    # Step j picks one of 0..last, and `last` itself, which cannot be taken, for a repeat.
    first_last = (degree - fanout)[:, None]
    steps = jax.lax.broadcasted_iota(jnp.int32, low.shape, 1)
    last = first_last + steps
    picks = _philox.bounded(low, high, (last + 1).astype(jnp.uint32)).astype(jnp.int32)

    def step(j: Array, chosen: Array) -> Array:
        pick = jax.lax.dynamic_slice_in_dim(picks, j, 1, axis=1)
        taken = jnp.any((chosen == pick) & (steps < j), axis=1, keepdims=True)
        pick = jnp.where(taken, first_last + j, pick)
        return jax.lax.dynamic_update_slice_in_dim(chosen, pick, j, axis=1)

    return jax.lax.fori_loop(0, fanout, step, jnp.zeros_like(picks))


def reference(
    indptr: Array,
    indices: Array,
    seeds: Array,
    state: Array,
    *,
    fanout: int,
    replace: int,
    **_: int,
) -> tuple[Array, Array, Array]:
    """Neighbours, edge ids and counts, as `sample_neighbors` states them."""
    indptr, indices = (
        jax.device_put(x, jax.memory.Space.Device) if _compat.in_host_space(x) else x
        for x in (indptr, indices)
    )
    num_edges = indices.shape[0]
    start, degree = _lists(indptr, num_edges, seeds)
    low, high = _philox.draws(state, fanout)
    steps = jax.lax.broadcasted_iota(jnp.int32, low.shape, 1)
    wide_degree = jnp.broadcast_to(degree[:, None], low.shape)
    if replace:
        offsets = _philox.bounded(low, high, wide_degree.astype(jnp.uint32)).astype(jnp.int32)
        counts = jnp.where(degree > 0, fanout, 0)
    else:
        offsets = jnp.where(wide_degree > fanout, _floyd(low, high, degree, fanout), steps)
        counts = jnp.minimum(degree, fanout)
    picked = steps < counts[:, None]
    dtype = edge_dtype(num_edges)
    edge_ids = jnp.where(picked, start[:, None].astype(dtype) + offsets.astype(dtype), -1)
    if num_edges == 0:
        neighbors = jnp.full(edge_ids.shape, -1, indices.dtype)
    else:
        neighbors = jnp.where(picked, jnp.take(indices, jnp.maximum(edge_ids, 0)), -1)
    return neighbors, edge_ids, counts.astype(jnp.int32)
