"""Softmax over the in-edges of each node."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdirect import _compat, _ffi, _gradient
from jaxdirect.relational import _call, _checks
from jaxdirect.relational._attention_op import segment_softmax
from jaxdirect.relational.graph import RelGraph


def _results(platform: str, *operands: Any, num_partials: int) -> list:
    logits = operands[0]
    partials = num_partials if platform == "cuda" else 0
    return [
        jax.ShapeDtypeStruct(logits.shape, logits.dtype),
        jax.ShapeDtypeStruct((partials, 2 * logits.shape[1]), jnp.float32),
    ]


def _by_edge(values: Array, edges: Array) -> Array:
    to = jnp.where(edges >= 0, edges, edges.shape[0])
    return jnp.zeros_like(values).at[to].set(values, mode="drop")


def _reference(
    logits: Array, edges: Array, indptr: Array, items: Array, heavy: Array, *, num_partials: int
) -> tuple[Array]:
    if edges.shape[0] == 0:
        return (logits,)
    wide = _call.accumulator(logits.dtype)
    segments = _call.row_of_entry(indptr, edges.shape[0])
    entries = _call.take_rows(logits, edges).astype(wide)
    entries = jnp.where(edges[:, None] >= 0, entries, -jnp.inf)
    weights, _ = segment_softmax(entries, segments, indptr.shape[0] - 1)
    return (_by_edge(weights.astype(logits.dtype), edges),)


_op = _ffi.Op(
    name="edge_softmax",
    target="jaxdirect_relational_softmax",
    results=_results,
    num_outputs=1,
    reference=_reference,
    sharding_rule=_call.replicated(2),
    batch=_call.map_batch,
    covers=_call.covers,
)


def _gradient_results(platform: str, *operands: Any, num_partials: int) -> list:
    softmax = operands[0]
    partials = num_partials if platform == "cuda" else 0
    return [
        jax.ShapeDtypeStruct(softmax.shape, softmax.dtype),
        jax.ShapeDtypeStruct((partials, softmax.shape[1]), jnp.float32),
    ]


def _gradient_reference(
    softmax: Array,
    cotangent: Array,
    edges: Array,
    indptr: Array,
    items: Array,
    heavy: Array,
    *,
    num_partials: int,
) -> tuple[Array]:
    if edges.shape[0] == 0:
        return (softmax,)
    wide = _call.accumulator(softmax.dtype)
    segments = _call.row_of_entry(indptr, edges.shape[0])
    weights = _call.take_rows(softmax, edges).astype(wide)
    above = _call.take_rows(cotangent, edges).astype(wide)
    totals = jax.ops.segment_sum(
        weights * above, segments, indptr.shape[0] - 1, indices_are_sorted=True
    )
    gradient = weights * (above - _call.take_rows(totals, segments))
    return (_by_edge(gradient.astype(softmax.dtype), edges),)


_gradient_op = _ffi.Op(
    name="edge_softmax gradient",
    target="jaxdirect_relational_softmax_backward",
    results=_gradient_results,
    num_outputs=1,
    reference=_gradient_reference,
    sharding_rule=_call.replicated(2),
    batch=_call.map_batch,
    covers=_call.covers,
)


def _edges(graph: RelGraph) -> Array:
    """The edge of each entry; none in the places that a block leaves empty."""
    if not graph.has_gaps:
        return graph.edge_ids
    return jnp.where(graph.incoming.indices >= 0, graph.edge_ids, -1)


@_gradient.custom_vjp(2)
def _edge_softmax(logits: Array, graph: RelGraph, implementation: str) -> Array:
    lists = graph.incoming
    (out,) = _call.call(
        _op,
        logits,
        _edges(graph),
        lists.indptr,
        lists.items,
        lists.heavy,
        num_partials=lists.num_partials,
        implementation=implementation,
    )
    return out


def _fwd(logits: Array, graph: RelGraph, implementation: str) -> tuple[Array, tuple]:
    out = _edge_softmax(logits, graph, implementation)
    return out, (out, graph)


def _bwd(implementation: str, residual: tuple, cotangent: Array) -> tuple[Array, None]:
    out, graph = residual
    lists = graph.incoming
    (gradient,) = _call.call(
        _gradient_op,
        out,
        cotangent,
        _edges(graph),
        lists.indptr,
        lists.items,
        lists.heavy,
        num_partials=lists.num_partials,
        implementation=implementation,
    )
    return gradient, None


_edge_softmax.defvjp(_fwd, _bwd)
_edge_softmax_jit = jax.jit(_edge_softmax, static_argnums=2)


def edge_softmax(
    g: RelGraph, logits: Float[Array, "edges heads"], *, implementation: str = "auto"
) -> Float[Array, "edges heads"]:
    """Softmax of edge scores over the in-edges of each node, all relations together.

    Args:
        g: the graph.
        logits: `[num_edges, heads]` or `[num_edges]`, in the order in which the edges were given;
            float16, bfloat16, float32 or float64 (in plain JAX on a GPU).
        implementation: `"auto"`, `"native"` or `"reference"` (plain JAX).

    Returns:
        The same shape and dtype; the values of a node's in-edges add up to 1, head by head. 0 in
        the places that a block leaves empty.

    Raises:
        TypeError: logits are no floating-point array.
        ValueError: their shape does not fit the graph.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxdirect.relational import RelGraph, edge_softmax
        >>> g = RelGraph.from_edges([0, 1, 2], [2, 2, 0], [0, 1, 0], num_nodes=3)
        >>> edge_softmax(g, jnp.zeros(3))
        Array([0.5, 0.5, 1. ], dtype=float32)
    """
    _checks.graph("edge_softmax", g)
    logits = _checks.edge_values("edge_softmax", "logits", logits, g.num_edges)
    flat = logits[:, None] if logits.ndim == 1 else logits
    with _compat.native_width(logits.dtype):
        return _edge_softmax_jit(flat, g, implementation).reshape(logits.shape)
