"""The inter-operator representation: values of a layer, each with what it depends on.

A value has the shape that it has on one edge; its scope says on which indices of the edge it
depends, and so how many different ones there are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

EDGE, SOURCE, DESTINATION = "edge", "source", "destination"
RELATION, SOURCE_TYPE, DESTINATION_TYPE = "relation", "source type", "destination type"
Scope = frozenset  # of the six above

# The type of a node is known where the node is.
_TYPES = {SOURCE: SOURCE_TYPE, DESTINATION: DESTINATION_TYPE}
_ENDS = {SOURCE, SOURCE_TYPE}, {DESTINATION, DESTINATION_TYPE}


def joined(scopes: Iterable[frozenset[str]]) -> frozenset[str]:
    """The scope of what depends on all of them."""
    found = frozenset().union(*scopes)
    if EDGE in found or (SOURCE in found and found & _ENDS[1]):
        return frozenset({EDGE})
    if DESTINATION in found and found & _ENDS[0]:
        return frozenset({EDGE})
    return found - {_TYPES[end] for end in found & _TYPES.keys()}


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """What every value has; compared by identity.

    Attributes:
        scope: of `joined`.
        shape: on one edge.
        dtype: of its elements.
        operands: what it is computed from.
        line: where the user's function computes it, or "".
    """

    scope: frozenset[str]
    shape: tuple[int, ...]
    dtype: Any
    operands: tuple[Value, ...] = ()
    line: str = ""

    @property
    def size(self) -> int:
        """Elements on one edge."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Input(Value):
    """A row of an argument, or (with `literal`) a constant.

    Attributes:
        table: "nodes", "types", "relations", "edges" or "shared".
        name: in that table.
        literal: the constant itself.
    """

    table: str = ""
    name: str = ""
    literal: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class Apply(Value):
    """A JAX operation on one edge's values.

    Attributes:
        eqn: the equation of the user's jaxpr.
        index: which of its results.
    """

    eqn: Any = None
    index: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Contract(Value):
    """A sum of products: `jnp.einsum` of the operands.

    Attributes:
        terms: the labels of each operand's axes.
        out: those of the result.
    """

    terms: tuple[tuple[int, ...], ...] = ()
    out: tuple[int, ...] = ()

    @property
    def extents(self) -> dict[int, int]:
        """How long each label's axis is."""
        pairs = zip(self.terms, self.operands, strict=True)
        return {n: e for labels, v in pairs for n, e in zip(labels, v.shape, strict=True)}


@dataclasses.dataclass(frozen=True, eq=False)
class Reshape(Value):
    """The operand in another shape: free."""


@dataclasses.dataclass(frozen=True, eq=False)
class Reduce(Value):
    """Over the in-edges of the destination.

    Attributes:
        kind: "sum", "mean" or "max", of which one is left for each destination, or "softmax"; or
            "pairs", the sum over the destination's (destination, relation) pairs. With the scope
            of such a pair, a sum or mean is that of the pair's edges.
        within: whether each relation is taken by itself ("mean": whose means are then added).
    """

    kind: str = ""
    within: bool = False


@dataclasses.dataclass(frozen=True)
class Program:
    """A layer: the values it returns."""

    results: tuple[Value, ...]

    def values(self) -> list[Value]:
        """All of them, each after its operands; what no result needs is not there."""
        found: dict[Value, None] = {}
        for result in self.results:
            for value in _ordered(result, found):
                found[value] = None
        return list(found)


def _ordered(value: Value, known: dict[Value, None]) -> Iterator[Value]:
    if value in known:
        return
    for operand in value.operands:
        yield from _ordered(operand, known)
    if value not in known:
        yield value


def rebuilt(program: Program, change: Any) -> Program:
    """The program whose values are `change(value, operands)` of each value and its new operands."""
    new: dict[Value, Value] = {}
    for value in program.values():
        new[value] = change(value, tuple(new[operand] for operand in value.operands))
    return Program(tuple(new[result] for result in program.results))


def with_operands(value: Value, operands: Sequence[Value]) -> Value:
    """The same operation of other operands."""
    if all(a is b for a, b in zip(operands, value.operands, strict=True)):
        return value
    scope = value.scope
    if not isinstance(value, (Input, Reduce)):
        scope = joined(operand.scope for operand in operands)
    return dataclasses.replace(value, operands=tuple(operands), scope=scope)
