"""What a user's function sees: an edge, a node, and reductions over the node's in-edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching
from jaxtyping import Array

reduce_p = Primitive("relational_reduce")
reduce_p.def_abstract_eval(lambda x, *, kind, within: x)


@reduce_p.def_impl
def _outside(x: Any, *, kind: str, within: bool) -> Any:
    raise TypeError(
        f"compile: node.{kind} got a value that does not depend on the edge; "
        "reduce what is computed from edge.src, edge.relation or the edge's own values"
    )


batching.primitive_batchers[reduce_p] = lambda operands, axes, **params: (
    reduce_p.bind(*operands, **params),
    axes[0],
)


class Fields:
    """The values of a table for one edge, as attributes or items."""

    def __init__(self, where: str, values: Mapping[str, Array]):
        self._where, self._values = where, values

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        known = ", ".join(self._values) or "none"
        raise AttributeError(f"compile: {self._where} has no {name!r}; given: {known}")


class Node(Fields):
    """A node: its features, the weights of its type, and reductions over its in-edges."""

    def __init__(self, where: str, values: Mapping[str, Array], type_: Fields):
        super().__init__(where, values)
        self.type = type_


class Destination(Node):
    """The node at which the layer is computed."""

    def sum(self, value: Any) -> Array:
        """The sum over the node's in-edges; 0 without any."""
        return _reduce(value, "sum")

    def mean(self, value: Any, *, by: str | None = None) -> Array:
        """The mean over the node's in-edges; `by="relation"`: each relation's, then their sum."""
        if by not in (None, "relation"):
            raise ValueError(f"compile: node.mean takes by=None or 'relation', got {by!r}")
        return _reduce(value, "mean", by is not None)

    def max(self, value: Any) -> Array:
        """The largest over the node's in-edges; 0 without any."""
        return _reduce(value, "max")

    def softmax(self, value: Any) -> Array:
        """The edge's share in the softmax of `value` over all in-edges of the node."""
        return _reduce(value, "softmax")


class Edge(Fields):
    """An edge: its own values, its relation's weights, and its two nodes."""

    def __init__(self, values: Mapping[str, Array], relation: Fields, src: Node, dst: Node):
        super().__init__("edge", values)
        self.relation, self.src, self.dst = relation, src, dst


def _reduce(value: Any, kind: str, within: bool = False) -> Array:
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"compile: node.{kind} takes floating-point values, got {array.dtype}")
    return reduce_p.bind(array, kind=kind, within=within)
