"""jaxdirect's side of each comparison: loops of calls inside one jit."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

import jaxdirect


@functools.cache
def gather_once(order: str):
    """jit of one gather: (table [rows, dim], ids [n]) -> [n, dim]."""
    return jax.jit(lambda table, ids: jaxdirect.gather(table, ids, order=order))


@functools.cache
def gather_loop(order: str, max_blocks: int | None = None):
    """jit of one gather per row of `id_sets` [calls, n]; every result is kept alive by one element.

    The gather is an opaque call, so reading one element of its result keeps the whole of it, and
    the loop runs on the device with no host in between.
    """

    @jax.jit
    def run(table, id_sets):
        def step(total, ids):
            rows = jaxdirect.gather(table, ids, order=order, max_blocks=max_blocks)
            return total + rows[0, 0].astype(jnp.float32), None

        return jax.lax.scan(step, jnp.float32(0), id_sets)[0]

    return run


def two_hops(graph, seeds, fanouts: tuple[int, int], key, replace: bool = False):
    """(hop 1 [B, f1], hop 2 [B * f1, f2], sampled edges) of seeds [B]."""
    key1, key2 = jax.random.split(key)
    first = jaxdirect.sample_neighbors(graph, seeds, fanouts[0], key1, replace=replace)
    frontier = first.neighbors.reshape(-1)
    second = jaxdirect.sample_neighbors(graph, frontier, fanouts[1], key2, replace=replace)
    edges = first.counts.sum() + second.counts.sum()
    return first.neighbors, second.neighbors, edges


@functools.cache
def sample_loop(fanouts: tuple[int, int], replace: bool = False):
    """jit of two hops per row of `seed_sets` [calls, B]; returns the sampled edges of all calls."""

    @jax.jit
    def run(graph, seed_sets, key):
        def step(total, seeds_and_key):
            seeds, key = seeds_and_key
            _, _, edges = two_hops(graph, seeds, fanouts, key, replace)
            return total + edges, None

        keys = jax.random.split(key, seed_sets.shape[0])
        return jax.lax.scan(step, jnp.int32(0), (seed_sets, keys))[0]

    return run


@functools.cache
def batch_ids(fanouts: tuple[int, int]):
    """jit: seeds [sets, B] -> the ids of each mini-batch [sets, B * (1 + f1 + f1 * f2)]."""

    @jax.jit
    def run(graph, seed_sets, key):
        sets = seed_sets.shape[0]
        hop1, hop2, _ = two_hops(graph, seed_sets.reshape(-1), fanouts, key)
        parts = (seed_sets, hop1.reshape(sets, -1), hop2.reshape(sets, -1))
        return jnp.concatenate([p.astype(jnp.int32) for p in parts], axis=1)

    return run
