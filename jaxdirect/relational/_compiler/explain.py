"""A program as text: each value, where it is, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator

import jax.numpy as jnp

from jaxdirect.relational._compiler import domains, ir, order


def table(program: ir.Program, places: domains.Places, compaction: bool) -> Iterator[str]:
    """A line for each value."""
    names = {value: f"%{number}" for number, value in enumerate(program.values())}
    rows = []
    for value, name in names.items():
        domain = domains.domain_of(value.scope, compaction)
        operands = ", ".join(names[operand] for operand in value.operands)
        shape = "x".join(map(str, value.shape)) or "1"
        where = f"{places.rows(domain):,} {domain}" if domain.kind != domains.SHARED else "shared"
        rows.append(
            (name, f"{jnp.dtype(value.dtype).name}[{shape}]", where, _what(value), operands)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=False))
        yield "  ".join([*cells, row[-1]]).rstrip()
    yield "returns " + ", ".join(names[result] for result in program.results)


def _what(value: ir.Value) -> str:
    if isinstance(value, ir.Input):
        if value.literal is not None:
            return f"constant {value.literal}" if not value.shape else "constant"
        return f"{value.table}.{value.name}"
    if isinstance(value, ir.Apply):
        return value.eqn.primitive.name
    if isinstance(value, ir.Reshape):
        return "reshape"
    if isinstance(value, ir.Reduce):
        if value.kind == "pairs":
            return "sum over pairs"
        if ir.RELATION in value.scope:
            return f"{value.kind} over edges of a pair"
        each = " of each relation, added up" if value.within else ""
        return f"{value.kind} over in-edges{each}"
    if isinstance(value, ir.Contract):
        return einsum(value)
    raise TypeError(type(value).__name__)


def einsum(value: ir.Contract, prefixes: tuple[str, ...] = ()) -> str:
    """The equation of a contraction, for `jnp.einsum`; the last prefix is the result's."""
    labels = sorted({n for each in value.terms for n in each})
    letters = {n: chr(ord("a") + i) for i, n in enumerate(labels)}
    parts = ["".join(letters[n] for n in each) for each in (*value.terms, value.out)]
    parts = [a + b for a, b in zip(prefixes or [""] * len(parts), parts, strict=True)]
    return f"{','.join(parts[:-1])}->{parts[-1]}"


def cost(program: ir.Program, rows: order.Rows) -> tuple[float, float]:
    """Operations of all contractions, and bytes that all values take."""
    operations, nbytes = 0.0, 0.0
    for value in program.values():
        if isinstance(value, ir.Contract):
            operations += order.work(value, rows)[0]
        if not isinstance(value, (ir.Input, ir.Reshape)):
            nbytes += float(rows(value.scope)) * value.size * jnp.dtype(value.dtype).itemsize
    return operations, nbytes
