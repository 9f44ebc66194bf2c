"""A pass: equal values become one."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from jaxdirect.relational._compiler import ir


def run(program: ir.Program) -> ir.Program:
    """The pass."""
    known: dict[tuple, ir.Value] = {}

    def once(value: ir.Value, operands: tuple[ir.Value, ...]) -> ir.Value:
        value = ir.with_operands(value, operands)
        key = _key(value)
        return value if key is None else known.setdefault(key, value)

    return ir.rebuilt(program, once)


def _key(value: ir.Value) -> tuple | None:
    kind = type(value)
    if isinstance(value, ir.Input):
        if value.literal is None:
            return kind, value.table, value.name, value.scope
        array = np.asarray(value.literal)
        return (
            kind,
            array.shape,
            str(value.dtype),
            array.tobytes() if array.size < 64 else id(value),
        )
    if isinstance(value, ir.Apply):
        params = tuple(sorted(value.eqn.params.items(), key=lambda item: item[0]))
        if not _hashable(params):
            return None
        return kind, value.eqn.primitive, params, value.operands, value.index
    if isinstance(value, ir.Reduce):
        return kind, value.kind, value.within, value.operands
    if isinstance(value, ir.Contract):
        return kind, value.terms, value.out, value.operands
    return kind, value.shape, value.operands


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return isinstance(value, Hashable)
