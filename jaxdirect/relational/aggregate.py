"""Sums, means and maxima of the rows of a node's in-neighbours."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdirect import _compat, _gradient
from jaxdirect.relational import _call, _checks
from jaxdirect.relational._largest_op import list_max
from jaxdirect.relational._picked_ops import picked_dot, picked_sum
from jaxdirect.relational._sum_op import list_dot, list_sum
from jaxdirect.relational.graph import RelGraph

REDUCTIONS = ("sum", "mean", "max")


def in_degree(graph: RelGraph) -> Int[Array, " nodes"]:
    """The number of each node's in-edges, without the places that a block leaves empty."""
    lists = graph.incoming
    if not graph.has_gaps:
        return jnp.diff(lists.indptr)
    real = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(lists.indices >= 0)])
    return jnp.diff(real[lists.indptr])


# Edge weights have the dtype that the sums are kept in.
@_gradient.custom_vjp(3)
def weighted_neighbours(
    x: Array, weight: Array | None, graph: RelGraph, implementation: str
) -> Array:
    """Over the in-edges of each node, the sum of `weight[edge] * x[source]`."""
    return list_sum(
        x,
        graph.incoming,
        weights=weight,
        weight_rows=None if weight is None else graph.edge_ids,
        implementation=implementation,
    )


def _fwd(x: Array, weight: Array | None, graph: RelGraph, implementation: str) -> tuple:
    return weighted_neighbours(x, weight, graph, implementation), (x, weight, graph)


def _bwd(implementation: str, residual: tuple, cotangent: Array) -> tuple:
    x, weight, graph = residual
    edges = graph.outgoing_edges
    x_grad = list_sum(
        cotangent,
        graph.outgoing,
        weights=weight,
        weight_rows=None if weight is None else _call.take_rows(graph.edge_ids, edges),
        implementation=implementation,
    )
    if weight is None:
        return x_grad, None, None
    weight_grad = list_dot(
        cotangent,
        x,
        graph.incoming,
        heads=weight.shape[1],
        weight_rows=graph.edge_ids,
        implementation=implementation,
    )
    return x_grad, weight_grad, None


weighted_neighbours.defvjp(_fwd, _bwd)


@_gradient.custom_vjp(3)
def _maximum(x: Array, weight: Array | None, graph: RelGraph, implementation: str) -> Array:
    return _max_fwd(x, weight, graph, implementation)[0]


def _max_fwd(x: Array, weight: Array | None, graph: RelGraph, implementation: str) -> tuple:
    out, winners = list_max(
        x,
        graph.incoming,
        weights=weight,
        weight_rows=None if weight is None else graph.edge_ids,
        implementation=implementation,
    )
    return out, (x, weight, graph, winners)


def _max_bwd(implementation: str, residual: tuple, cotangent: Array) -> tuple:
    x, weight, graph, winners = residual
    edges = graph.outgoing_edges
    x_grad = picked_sum(
        cotangent,
        winners,
        graph.outgoing,
        edges,
        weights=weight,
        weight_rows=None if weight is None else _call.take_rows(graph.edge_ids, edges),
        implementation=implementation,
    )
    if weight is None:
        return x_grad, None, None
    weight_grad = picked_dot(
        cotangent,
        winners,
        x,
        graph.incoming,
        heads=weight.shape[1],
        to=graph.edge_ids,
        implementation=implementation,
    )
    return x_grad, weight_grad, None


_maximum.defvjp(_max_fwd, _max_bwd)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _aggregate(
    x: Array, weight: Array | None, graph: RelGraph, reduce: str, implementation: str
) -> Array:
    if reduce == "max":
        return _maximum(x, weight, graph, implementation)
    total = weighted_neighbours(x, weight, graph, implementation)
    if reduce == "sum":
        return total
    return (total / jnp.maximum(in_degree(graph), 1)[:, None]).astype(x.dtype)


def aggregate(
    g: RelGraph,
    x: Float[Array, "nodes d"],
    edge_weight: Float[Array, "edges heads"] | None = None,
    reduce: str = "sum",
    *,
    implementation: str = "auto",
) -> Float[Array, "nodes d"]:
    """Sum, mean or maximum over each node's in-edges of `edge_weight * x[source]`.

    Args:
        g: the graph.
        x: `[num_nodes, d]`, rows of the sources; float16, bfloat16, float32 or float64 (in plain
            JAX on a GPU). Sums of 16-bit floats are kept in float32.
        edge_weight: `[num_edges]` or `[num_edges, heads]` in the order in which the edges were
            given; heads split the d columns into equal runs. None: 1.
        reduce: `"sum"`, `"mean"` (the sum over the number of in-edges) or `"max"`, whose gradient
            goes to the first of equal messages.
        implementation: `"auto"`, `"native"` or `"reference"` (plain JAX).

    Returns:
        `[num_nodes, d]` in x's dtype; 0 where no edge comes in.

    Raises:
        TypeError: arguments are no floating-point arrays.
        ValueError: shapes do not fit, heads do not divide d, or `reduce` is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxdirect.relational import RelGraph, aggregate
        >>> g = RelGraph.from_edges([0, 1, 2], [2, 2, 0], [0, 1, 0], num_nodes=3)
        >>> aggregate(g, jnp.array([[1.0], [2.0], [4.0]])).ravel()
        Array([4., 0., 3.], dtype=float32)
    """
    _checks.graph("aggregate", g)
    if reduce not in REDUCTIONS:
        raise ValueError(
            f"aggregate: reduce must be one of {', '.join(REDUCTIONS)}, got {reduce!r}"
        )
    _checks.implementation("aggregate", implementation)
    x = _checks.nodes("aggregate", "x", x, g.num_src)
    weight = None
    if edge_weight is not None:
        weight = _checks.edge_values("aggregate", "edge_weight", edge_weight, g.num_edges)
        heads = 1 if weight.ndim == 1 else weight.shape[1]
        if heads == 0 or x.shape[1] % heads:
            raise ValueError(
                f"aggregate: the heads of edge_weight must divide d, got {heads} heads and "
                f"d = {x.shape[1]}"
            )
        weight = weight.reshape(g.num_edges, heads).astype(_call.accumulator(x.dtype))
    with _compat.native_width(x.dtype):
        return _aggregate(x, weight, g, reduce, implementation)
