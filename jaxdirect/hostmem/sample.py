"""Neighbours of nodes, picked at random from a host or device graph."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, ArrayLike, Int

from jaxdirect import _compat, _ffi
from jaxdirect.hostmem import _checks
from jaxdirect.hostmem._sample_reference import edge_dtype, reference
from jaxdirect.hostmem._workspace import order_workspace_bytes
from jaxdirect.hostmem.csr import CSRGraph
from jaxdirect.hostmem.gather import ORDERS


class SampledNeighbors(NamedTuple):
    """What `sample_neighbors` picked; row i is for seed i.

    Attributes:
        neighbors: `[*batch, fanout]`, node ids, -1 past `counts`.
        edge_ids: `[*batch, fanout]`, their positions in `graph.indices`, -1 past `counts`.
        counts: `[*batch]`, int32, how many were picked.
    """

    neighbors: Int[Array, "*batch fanout"]
    edge_ids: Int[Array, "*batch fanout"]
    counts: Int[Array, "*batch"]


@dataclasses.dataclass(frozen=True)
class _Options:
    fanout: int
    replace: bool
    order: int
    implementation: str


def _results(
    platform: str,
    indptr: Any,
    indices: Any,
    seeds: Any,
    state: Any,
    *,
    fanout: int,
    order: int,
    **_,
) -> list:
    count = seeds.shape[0]
    sorts = platform == "cuda" and order != ORDERS["given"]
    return [
        jax.ShapeDtypeStruct((count, fanout), indices.dtype),
        jax.ShapeDtypeStruct((count, fanout), edge_dtype(indices.shape[0])),
        jax.ShapeDtypeStruct((count,), jnp.int32),
        jax.ShapeDtypeStruct((order_workspace_bytes(count) if sorts else 0,), jnp.uint8),
    ]


def _sharding_rule(*_: int, **__: int) -> tuple[str, tuple[str, ...]]:
    return "v, e, b, b two -> b f, b f, b", ("v", "e", "two", "f")


def _batch(op: Any, axis_size: int, batched: list[bool], *operands: Array) -> tuple[Array, ...]:
    indptr, indices, seeds, state = operands
    seeds, state = (
        x if flag else jnp.broadcast_to(x, (axis_size, *x.shape))
        for x, flag in zip((seeds, state), batched[2:], strict=True)
    )
    outputs = op(indptr, indices, seeds.reshape(-1), state.reshape(-1, 2))
    return tuple(out.reshape(axis_size, -1, *out.shape[1:]) for out in outputs)


_op = _ffi.Op(
    name="sample_neighbors",
    target="jaxdirect_hostmem_sample_neighbors",
    results=_results,
    num_outputs=3,
    reference=reference,
    sharding_rule=_sharding_rule,
    batch=_batch,
    whole=((0, "graph.indptr"), (1, "graph.indices")),
)


@functools.partial(jax.jit, static_argnums=4)
def _sample(
    indptr: Array, indices: Array, seeds: Array, state: Array, options: _Options
) -> tuple[Array, ...]:
    return _op(indptr, indices, seeds, state, **dataclasses.asdict(options))


def sample_neighbors(
    graph: CSRGraph,
    seeds: Int[ArrayLike, "*batch"],
    fanout: int,
    key: Array,
    *,
    replace: bool = False,
    order: str = "auto",
    implementation: str = "auto",
) -> SampledNeighbors:
    """Picks up to `fanout` neighbours of each seed, uniformly at random.

    On a GPU one kernel reads the lists of a unified graph straight from pinned host
    memory. The samples depend on the key alone: they are the same on every platform and
    for every `order` and `implementation`.

    Args:
        graph: on the host (arrays from `unified`) or on the device, passed as an argument
            of the function that you `jit`; under a mesh it is replicated, or sharded
            inside `jax.shard_map`.
        seeds: `[*batch]`, integer node ids. A seed outside `[0, num_nodes)`, so -1 too,
            gets an empty row, so that hops chain: `seeds=out.neighbors.reshape(-1)`.
        fanout: how many neighbours to pick, at least 1.
        key: a random key, typed or raw.
        replace: whether a neighbour may be picked more than once. Without it, a list of up
            to `fanout` entries is taken whole, in its own order. Repeated entries of a
            list count as different ones. Of a list of more than 2^31 - 1 entries, only
            that many are seen.
        order: `"given"` visits the seeds as they come, `"sorted"` in ascending order,
            `"auto"` sorts for a host graph when that pays.
        implementation: `"auto"`, `"native"` or `"reference"` (plain JAX, which moves a host
            graph to the device first).

    Returns:
        `SampledNeighbors` of `neighbors` `[*batch, fanout]` in the dtype of
        `graph.indices`, `edge_ids` `[*batch, fanout]` in int32 (int64 from 2^31 edges on)
        and `counts` `[*batch]` in int32, on the device; -1 pads the first two.

    Raises:
        TypeError: graph is no `CSRGraph`, seeds are no integers, or key is no key.
        ValueError: fanout is below 1, order or implementation is unknown, key is not a
            single key, or the graph is freed, batched by `vmap`, sharded under plain `jit`,
            or a unified one that `jit` would copy into the program.

    Source: Floyd's algorithm, Bentley and Floyd, CACM 30(9), 1987; reading the graph from
    the GPU: PyTorch-Direct, arXiv:2101.07956.

    Example:
        >>> import jax, numpy as np, jaxdirect
        >>> graph = jaxdirect.CSRGraph(np.array([0, 2, 3, 3]), np.array([1, 2, 0]))
        >>> out = jaxdirect.sample_neighbors(graph, np.array([0, 1, 2, -1]), 2, jax.random.key(0))
        >>> out.neighbors
        Array([[ 1,  2],
               [ 0, -1],
               [-1, -1],
               [-1, -1]], dtype=int32)
    """
    _check_graph(graph)
    options = _options(fanout, replace, order, implementation)
    _check_key(key)
    shape = np.shape(seeds)
    dtypes = graph.indptr.dtype, graph.indices.dtype, getattr(seeds, "dtype", None)
    with _compat.native_width(*dtypes):
        ids = _checks.index_array("sample_neighbors", "seeds", seeds, graph.num_nodes).reshape(-1)
        state = _state(key, ids)
        operands = _compat.match_varying(graph.indptr, graph.indices, ids, state)
        outputs = _sample(*operands, options)
        neighbors, edge_ids, counts = (out.reshape(*shape, *out.shape[1:]) for out in outputs)
    return SampledNeighbors(neighbors, edge_ids, counts)


def _state(key: Array, ids: Array) -> Array:
    """A Philox key for each seed, split over devices as the seeds are."""
    mesh, (spec,) = _compat.explicit_sharding((ids,))
    sharding = None if mesh is None else NamedSharding(mesh, PartitionSpec(*spec, None))
    words = jax.random.bits(key, (1, 2), jnp.uint32)
    shape = (ids.shape[0], 2)
    number = jax.lax.broadcasted_iota(jnp.uint32, shape, 0, out_sharding=sharding)
    column = jax.lax.broadcasted_iota(jnp.uint32, shape, 1, out_sharding=sharding)
    return words + number * column  # word 1 tells seeds apart


def _check_graph(graph: Any) -> None:
    if not isinstance(graph, CSRGraph):
        raise TypeError(
            f"sample_neighbors: graph must be a CSRGraph, got {type(graph).__name__}; "
            "make one with jaxdirect.CSRGraph(indptr, indices)"
        )
    graph.check()
    _checks.check_reachable("sample_neighbors", "graph.indptr", graph.indptr)
    _checks.check_reachable("sample_neighbors", "graph.indices", graph.indices)


def _options(fanout: Any, replace: Any, order: str, implementation: str) -> _Options:
    if isinstance(fanout, (bool, np.bool_)) or not isinstance(fanout, (int, np.integer)):
        raise TypeError(
            f"sample_neighbors: fanout must be a plain integer, got {type(fanout).__name__}; "
            "it sets a shape, so pass it as a static argument"
        )
    if not 1 <= fanout <= np.iinfo(np.int32).max:
        raise ValueError(f"sample_neighbors: fanout must be in [1, 2^31), got {fanout}")
    if not isinstance(replace, (bool, np.bool_)):
        raise TypeError(
            f"sample_neighbors: replace must be True or False, got {type(replace).__name__}"
        )
    if order not in ORDERS:
        raise ValueError(
            f"sample_neighbors: order must be one of {', '.join(ORDERS)}, got {order!r}"
        )
    return _Options(int(fanout), bool(replace), ORDERS[order], implementation)


def _check_key(key: Any) -> None:
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    raw = isinstance(key, (jax.Array, np.ndarray)) and key.dtype == np.uint32
    if not typed and not raw:
        got = getattr(key, "dtype", type(key).__name__)
        raise TypeError(
            f"sample_neighbors: key must be a random key, got {got}; "
            "make one with jax.random.key(0)"
        )
    if key.ndim != (0 if typed else 1):
        raise ValueError(
            f"sample_neighbors: key must be a single key, got shape {key.shape}; "
            "map over keys with jax.vmap"
        )
