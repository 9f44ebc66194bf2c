"""A pass: the order in which contractions multiply, two operands at a time, by cost.

Linear operator reordering falls out of it: where a product of weights is worth it, it comes first.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Set
from typing import Any

import jax.numpy as jnp

from jaxdirect.relational._compiler import ir
from jaxdirect.relational._lists import TILE

# Operations for each byte that a device moves in the same time.
_OPERATIONS_PER_BYTE = 8.0
_MOST_TERMS = 6
PAIR = frozenset({ir.DESTINATION, ir.RELATION})
TABLES = {ir.RELATION, ir.SOURCE_TYPE, ir.DESTINATION_TYPE}

Rows = Callable[[frozenset[str]], int]
Labels = tuple[int, ...]


def work(value: ir.Contract, rows: Rows) -> tuple[float, float]:
    """Operations and bytes of a contraction on a graph.

    A matrix by relation or type is read once for each tile of rows. Rows of edges are first put in
    the order of their matrices.
    """
    count, width = rows(value.scope), jnp.dtype(value.dtype).itemsize
    operations = 2.0 * count * math.prod(value.extents.values())
    at_edges = value.scope == {ir.EDGE}
    read, sorted_rows = 0.0, 0.0
    for operand in value.operands:
        table = operand.scope <= TABLES and not value.scope <= TABLES
        read += operand.size * (count / TILE if table else count)
        sorted_rows += count * (operand.size if not table else 0) if at_edges else 0
    reordered = any(operand.scope <= TABLES and operand.scope for operand in value.operands)
    moved = count * value.size + read + (2 * sorted_rows if at_edges and reordered else 0)
    return operations, float(width * moved)


def seconds(value: ir.Contract, rows: Rows, summed: bool = False) -> float:
    """Proportional to the time that a contraction takes.

    Args:
        value: of two operands.
        rows: as in `Orders`.
        summed: whether only sums over edges read it, which multiply rows themselves.
    """
    operations, moved = work(value, rows)
    if summed and weighted_rows(value) is not None:
        moved -= rows(value.scope) * value.size * jnp.dtype(value.dtype).itemsize
    return operations / _OPERATIONS_PER_BYTE + moved


def weighted_rows(value: ir.Value) -> tuple[ir.Value, ir.Value] | None:
    """`(weights, rows)` of sources or their pairs whose product a value is, or None.

    A sum over edges multiplies these itself; the weights' axes are the first of the rows'.
    """
    if not isinstance(value, ir.Contract) or len(value.operands) != 2:
        return None
    for side in (0, 1):
        rows, weight = value.operands[side], value.operands[1 - side]
        heads, near = value.terms[1 - side], rows.scope <= {ir.SOURCE, ir.RELATION}
        leading = value.terms[side] == value.out and value.out[: len(heads)] == heads
        if near and ir.SOURCE in rows.scope and leading:
            return weight, rows
    return None


def total(program: ir.Program, rows: Rows) -> float:
    """Proportional to the time of a program's contractions and reductions."""
    summed, found = _summed(program), 0.0
    edges = rows(frozenset({ir.EDGE}))
    for value in program.values():
        if isinstance(value, ir.Contract):
            found += seconds(value, rows, value in summed)
        elif isinstance(value, ir.Reduce):
            width = jnp.dtype(value.dtype).itemsize
            read = rows(PAIR) if value.kind == "pairs" else edges
            found += width * value.size * float(read + rows(value.scope))
    return found


class Orders:
    """The pass for a graph.

    Args:
        rows: how many different values of a scope there are.
        reorder: whether any order may be taken; else that in which the user multiplies.
    """

    def __init__(self, rows: Rows, reorder: bool = True):
        self._rows, self._reorder = rows, reorder
        self._known: dict[tuple, Any] = {}

    def run(self, program: ir.Program) -> ir.Program:
        """The program with contractions of two operands at most."""
        new: dict[ir.Value, ir.Value] = {}
        self._summed = _summed(program)

        def of(value: ir.Value) -> ir.Value:
            return new[value]

        # What others need as it is comes first, so that they find it.
        for value in program.values():
            operands = [of(operand) for operand in value.operands]
            if isinstance(value, ir.Contract):
                whole = dataclasses.replace(value, operands=tuple(operands))
                new[value] = self._ordered(whole, value in self._summed)
            else:
                new[value] = self._once(ir.with_operands(value, operands))
        return ir.Program(tuple(of(result) for result in program.results))

    def _once(self, value: ir.Value) -> ir.Value:
        if isinstance(value, ir.Reshape):
            return self._known.setdefault(("reshape", value.operands, value.shape), value)
        return value

    def _ordered(self, value: ir.Contract, summed: bool) -> ir.Value:
        terms = list(zip(value.operands, value.terms, strict=True))
        if self._reorder and len(terms) <= _MOST_TERMS:
            return self._cheapest(value, terms, summed)
        found, labels = self._single(value, terms, 0, self._kept(value, terms, {0}))
        for number in range(1, len(terms)):
            kept = self._kept(value, terms, set(range(number + 1)))
            other = self._single(value, terms, number, self._kept(value, terms, {number}))
            found, labels = self._pair(value, [(found, labels), other], kept, self._known), kept
        return found

    def _cheapest(self, whole: ir.Contract, terms: list, summed: bool) -> ir.Value:
        """The value of the cheapest tree, from those of all subsets of the terms."""
        everything = frozenset(range(len(terms)))
        best: dict[frozenset[int], tuple[float, ir.Value, Labels]] = {}
        made: dict[tuple, ir.Value] = {}
        there = {*self._known.values(), *whole.operands}
        for count in range(1, len(terms) + 1):
            for chosen in itertools.combinations(range(len(terms)), count):
                subset = frozenset(chosen)
                kept = self._kept(whole, terms, subset)
                last = summed and subset == everything
                found = []
                if count == 1:
                    found.append((0.0, *self._single(whole, terms, chosen[0], kept, made)))
                for left in _halves(chosen):
                    (one, *a), (two, *b) = best[left], best[subset - left]
                    found.append((one + two, self._pair(whole, [a, b], kept, made), kept))
                best[subset] = min(
                    (
                        (cost + (0.0 if value in there else self._cost(value, last)), value, labels)
                        for cost, value, labels in found
                    ),
                    key=lambda each: each[0],
                )
        chosen_value = best[everything][1]
        used = set(ir.Program((chosen_value,)).values())
        self._known |= {key: value for key, value in made.items() if value in used}
        return chosen_value

    def _cost(self, value: ir.Value, summed: bool) -> float:
        return seconds(value, self._rows, summed) if isinstance(value, ir.Contract) else 0.0

    def _kept(self, whole: ir.Contract, terms: list, subset: Set[int]) -> Labels:
        """Labels of a product of some terms that others, or the result, need."""
        if len(subset) == len(terms):
            return whole.out
        own = {n for i in subset for n in terms[i][1]}
        outside = {n for i, (_, labels) in enumerate(terms) if i not in subset for n in labels}
        return tuple(sorted(own & (outside | set(whole.out))))

    def _single(self, whole, terms, number, kept, made=None) -> tuple[ir.Value, Labels]:
        """A term, without what nobody else needs."""
        value, labels = terms[number]
        if labels == kept or (len(terms) > 1 and set(labels) <= set(kept)):
            return value, labels
        return self._pair(
            whole, [(value, labels)], kept, self._known if made is None else made
        ), kept

    def _pair(self, whole, sides, out, made) -> ir.Value:
        values = tuple(value for value, _ in sides)
        if len(sides) == 1 and sides[0][1] == tuple(out):
            return values[0]
        extents = whole.extents
        names = {}
        terms = tuple(tuple(names.setdefault(n, len(names)) for n in labels) for _, labels in sides)
        result = tuple(names[n] for n in out)
        key = ("contract", values, terms, result)
        if key not in made and key not in self._known:
            made[key] = ir.Contract(
                ir.joined(v.scope for v in values),
                *(tuple(extents[n] for n in out), whole.dtype, values, whole.line),
                terms=terms,
                out=result,
            )
        return self._known.get(key) or made[key]


def _summed(program: ir.Program) -> set[ir.Value]:
    """What only sums over edges read."""
    readers: dict[ir.Value, list[ir.Value]] = {}
    for value in program.values():
        for operand in value.operands:
            readers.setdefault(operand, []).append(value)
    free = {v for v, found in readers.items() if all(_is_sum(reader) for reader in found)}
    for value in reversed(program.values()):  # what is only in another shape
        if value in readers and all(
            _is_sum(r) or (isinstance(r, ir.Reshape) and r in free) for r in readers[value]
        ):
            free.add(value)
    return free - set(program.results)


def _is_sum(value: ir.Value) -> bool:
    return isinstance(value, ir.Reduce) and value.kind in ("sum", "mean")


def _halves(chosen: tuple[int, ...]) -> Iterator[frozenset[int]]:
    """Left parts of all ways to cut terms in two; the first term is on the left."""
    first, *rest = chosen
    for size in range(len(rest)):
        for more in itertools.combinations(rest, size):
            yield frozenset((first, *more))


def run(program: ir.Program, rows: Rows, reorder: bool = True) -> ir.Program:
    """The pass."""
    return Orders(rows, reorder).run(program)
