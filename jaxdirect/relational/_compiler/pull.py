"""A pass: what is the same for all edges of a sum is multiplied after it.

A sum of `x[source] @ W[relation]` may add the rows first, for each (destination, relation) pair,
and multiply fewer of them: aggregation on the side where compact rows are fewer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from jaxdirect.relational._compiler import ir

_NEAR = {ir.DESTINATION, ir.DESTINATION_TYPE}


def run(program: ir.Program, cost: Callable[[ir.Program], float], pairs: bool) -> ir.Program:
    """The pass.

    Args:
        program: after `contract`.
        cost: of a program.
        pairs: whether sums for each (destination, relation) pair may be made.
    """
    best, best_cost = program, cost(program)
    for reduction in program.values():
        if not isinstance(reduction, ir.Reduce) or reduction.kind not in ("sum", "mean"):
            continue
        for scope in (_NEAR, _NEAR | {ir.RELATION}) if pairs else (_NEAR,):
            for other in _pulled(best, reduction, scope):
                found = cost(other)
                if found < best_cost:
                    best, best_cost = other, found
    return best


def _pulled(program: ir.Program, reduction: ir.Reduce, near: set[str]) -> Iterator[ir.Program]:
    """The program with the factors of these scopes behind a reduction, if there are any."""
    key = _identity(reduction)
    for value in program.values():
        if isinstance(value, ir.Reduce) and _identity(value) == key:
            made = _split(value, near)
            if made is None:
                return

            def change(old, operands, value=value, made=made):
                return made if old is value else ir.with_operands(old, operands)

            yield ir.rebuilt(program, change)
            return


def _identity(value: ir.Reduce) -> tuple:
    """What stays the same of a reduction in other forms of its program."""
    return value.kind, value.within, value.shape, value.operands, value.line


def _split(reduction: ir.Reduce, near: set[str]) -> ir.Value | None:
    (operand,) = reduction.operands
    whole = operand.operands[0] if isinstance(operand, ir.Reshape) else operand
    if not isinstance(whole, ir.Contract):
        return None
    terms = list(zip(whole.operands, whole.terms, strict=True))
    after = [term for term in terms if term[0].scope <= near]
    before = [term for term in terms if not term[0].scope <= near]
    needed = {n for _, labels in after for n in labels} | set(whole.out)
    if not before or not any(labels for _, labels in after):
        return None
    inner_out = tuple(sorted({n for _, labels in before for n in labels} & needed))
    scope = ir.joined(value.scope for value, _ in after)
    of_pairs = ir.RELATION in scope
    if of_pairs and reduction.kind == "mean" and not reduction.within:
        return None
    extents = whole.extents
    inner = ir.Contract(
        ir.joined(value.scope for value, _ in before),
        *(tuple(extents[n] for n in inner_out), whole.dtype),
        *(tuple(value for value, _ in before), whole.line),
        terms=tuple(labels for _, labels in before),
        out=inner_out,
    )
    to = frozenset({ir.DESTINATION, ir.RELATION} if of_pairs else {ir.DESTINATION})
    total = dataclasses.replace(
        reduction, scope=to, shape=inner.shape, operands=(inner,), within=reduction.within
    )
    outer = ir.Contract(
        ir.joined([to, scope]),
        *(whole.shape, whole.dtype, (total, *(value for value, _ in after)), whole.line),
        terms=(inner_out, *(labels for _, labels in after)),
        out=whole.out,
    )
    found: ir.Value = outer
    if of_pairs:
        scope = frozenset({ir.DESTINATION})
        found = ir.Reduce(scope, outer.shape, outer.dtype, (outer,), outer.line, "pairs")
    if found.shape != reduction.shape:
        found = ir.Reshape(found.scope, reduction.shape, found.dtype, (found,), found.line)
    return found
