"""From a user's function on one edge to the representation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal
from jaxtyping import Array

from jaxdirect import _compat
from jaxdirect.relational._compiler import ir
from jaxdirect.relational._compiler.surface import Destination, Edge, Fields, Node, reduce_p

TABLES = ("nodes", "types", "relations", "edges", "shared")
_INLINED = ("pjit", "jit", "closed_call", "core_call", "remat", "checkpoint", "name")


def check(function: Any) -> int:
    """How many parameters the function takes: 2, or 3 with shared values."""
    if not callable(function):
        raise TypeError(f"compile: takes a function, got {type(function).__name__}")
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) not in (2, 3):
        raise TypeError(
            "compile: the function takes (edge, node) or (edge, node, shared), "
            f"got {inspect.signature(function)}"
        )
    return len(positional)


def trace(function: Callable, tables: Mapping[str, Mapping[str, Any]]) -> tuple[ir.Program, Any]:
    """The program of a function for arguments of these shapes.

    Args:
        function: the user's.
        tables: of each table its arguments; all but the shared ones have a leading axis.

    Returns:
        The program and the structure of what the function returns.
    """
    inputs = _inputs(tables)
    structures: list[Any] = []

    def on_one_edge(*rows: Array) -> list[Array]:
        given: dict[tuple, dict[str, Array]] = {}
        for value, row in zip(inputs, rows, strict=True):
            given.setdefault((value.table, value.scope), {})[value.name] = row
        found = function(*_arguments(function, given))
        leaves, structure = jax.tree.flatten(found)
        structures.append(structure)
        return [jnp.asarray(leaf) for leaf in leaves]

    rows = [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in inputs]
    closed = jax.make_jaxpr(on_one_edge)(*rows)
    if closed.effects:
        listed = ", ".join(sorted(map(str, closed.effects)))
        raise ValueError(f"compile: the function must have no side effects, it has {listed}")
    reader = _Reader()
    constants = [_constant(value) for value in closed.consts]
    results = reader.read(closed.jaxpr, [*constants, *inputs])
    for number, result in enumerate(results):
        if result.scope - {ir.DESTINATION, ir.DESTINATION_TYPE}:
            listed = ", ".join(sorted(result.scope))
            raise ValueError(
                f"compile: result {number} has a value for each {listed}{result.line}; a layer "
                "returns values of its node: reduce them with node.sum, node.mean or node.max"
            )
    return ir.Program(tuple(results)), structures[-1]


def _arguments(function: Callable, given: dict[tuple, dict[str, Array]]) -> list[Any]:
    def fields(table: str, *scope: str) -> dict[str, Array]:
        return given.get((table, frozenset(scope)), {})

    src_type = Fields("edge.src.type", fields("types", ir.SOURCE_TYPE))
    dst_type = Fields("node.type", fields("types", ir.DESTINATION_TYPE))
    src = Node("edge.src", fields("nodes", ir.SOURCE), src_type)
    dst = Destination("node", fields("nodes", ir.DESTINATION), dst_type)
    relation = Fields("edge.relation", fields("relations", ir.RELATION))
    edge = Edge(fields("edges", ir.EDGE), relation, src, dst)
    shared = Fields("shared", fields("shared"))
    return [edge, dst, shared][: check(function)]


_SCOPES = {
    "nodes": (ir.SOURCE, ir.DESTINATION),
    "types": (ir.SOURCE_TYPE, ir.DESTINATION_TYPE),
    "relations": (ir.RELATION,),
    "edges": (ir.EDGE,),
}


def _inputs(tables: Mapping[str, Mapping[str, Any]]) -> list[ir.Input]:
    found = []
    for table in TABLES:
        for name, array in tables.get(table, {}).items():
            scopes = [frozenset({s}) for s in _SCOPES.get(table, ())] or [frozenset()]
            shape = tuple(array.shape if table == "shared" else array.shape[1:])
            found += [
                ir.Input(scope, shape, array.dtype, table=table, name=name) for scope in scopes
            ]
    return found


def _constant(value: Any) -> ir.Input:
    array = jnp.asarray(value)
    return ir.Input(frozenset(), array.shape, array.dtype, literal=value)


class _Reader:
    """Equations as values; equal ones once."""

    def __init__(self) -> None:
        self._known: dict[tuple, list[ir.Value]] = {}

    def read(self, jaxpr: Any, given: list[ir.Value]) -> list[ir.Value]:
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], given, strict=True))

        def of(atom: Any) -> ir.Value:
            return _constant(atom.val) if isinstance(atom, Literal) else values[atom]

        for eqn in jaxpr.eqns:
            found = self._equation(eqn, [of(atom) for atom in eqn.invars])
            values |= dict(zip(eqn.outvars, found, strict=True))
        return [of(atom) for atom in jaxpr.outvars]

    def _equation(self, eqn: Any, operands: list[ir.Value]) -> list[ir.Value]:
        line = _compat.user_line(eqn)
        if eqn.primitive is reduce_p:
            return [_reduced(eqn, operands[0], line)]
        inner = eqn.params.get("jaxpr") or eqn.params.get("call_jaxpr")
        if eqn.primitive.name in _INLINED and inner is not None:
            constants = [_constant(value) for value in getattr(inner, "consts", ())]
            return self.read(getattr(inner, "jaxpr", inner), [*constants, *operands])
        if _reduces(eqn):
            raise ValueError(
                f"compile: a reduction over edges inside {eqn.primitive.name}{line}; "
                "reduce outside of loops, branches and functions with derivatives of their own"
            )
        scope = ir.joined(operand.scope for operand in operands)
        return [
            ir.Apply(scope, out.aval.shape, out.aval.dtype, tuple(operands), line, eqn, index)
            for index, out in enumerate(eqn.outvars)
        ]


def _reduces(eqn: Any) -> bool:
    """Whether a jaxpr inside of an equation reduces over edges."""
    for param in jax.tree.leaves(
        list(eqn.params.values()), is_leaf=lambda p: _jaxpr_of(p) is not None
    ):
        jaxpr = _jaxpr_of(param)
        if jaxpr is not None and any(e.primitive is reduce_p or _reduces(e) for e in jaxpr.eqns):
            return True
    return False


def _jaxpr_of(param: Any) -> Any:
    jaxpr = getattr(param, "jaxpr", param)
    return jaxpr if hasattr(jaxpr, "eqns") else None


def _reduced(eqn: Any, value: ir.Value, line: str) -> ir.Value:
    kind, within = eqn.params["kind"], eqn.params["within"]
    scope = frozenset({ir.EDGE if kind == "softmax" else ir.DESTINATION})
    return ir.Reduce(scope, value.shape, value.dtype, (value,), line, kind, within)
