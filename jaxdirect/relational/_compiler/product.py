"""Products of values whose axes are named: what contractions are gathered as."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

from jaxdirect.relational._compiler import ir

Axis = tuple[int, ...]  # the atoms that an axis is made of, the slowest first


class Mismatch(Exception):
    """Axes that no product describes."""


@dataclasses.dataclass
class Product:
    """A scaled product of values, summed over the atoms that the result does not have.

    Attributes:
        terms: values and their axes.
        out: axes of the result.
        extents: of all atoms.
        scale: what all is multiplied by.
    """

    terms: list[tuple[ir.Value, list[Axis]]]
    out: list[Axis]
    extents: dict[int, int]
    scale: float = 1.0

    def length(self, axis: Axis) -> int:
        return math.prod(self.extents[atom] for atom in axis)

    def substitute(self, atom: int, parts: Axis) -> None:
        """Puts `parts` where `atom` was."""

        def one(axis: Axis) -> Axis:
            return tuple(itertools.chain(*(parts if a == atom else (a,) for a in axis)))

        self.terms = [(value, [one(axis) for axis in axes]) for value, axes in self.terms]
        self.out = [one(axis) for axis in self.out]

    def split(self, atom: int, sizes: Sequence[int], fresh: Iterator[int]) -> Axis:
        """Cuts an atom into several."""
        parts = tuple(next(fresh) for _ in sizes)
        self.extents |= dict(zip(parts, sizes, strict=True))
        self.substitute(atom, parts)
        return parts

    def unify(self, one: Axis, other: Axis, fresh: Iterator[int]) -> None:
        """Makes two axes of the same length the same."""
        a, b = list(one), list(other)
        while a and b:
            if a[0] == b[0]:
                a.pop(0)
                b.pop(0)
                continue
            left, right = self.extents[a[0]], self.extents[b[0]]
            if left == right:
                kept, gone = a.pop(0), b.pop(0)
                self.substitute(gone, (kept,))
                a, b = ([kept if x == gone else x for x in axis] for axis in (a, b))
                continue
            wide, narrow = (a, b) if left > right else (b, a)
            large, small = self.extents[wide[0]], self.extents[narrow[0]]
            if small == 0 or large % small:
                raise Mismatch
            cut = wide[0]
            parts = self.split(cut, (small, large // small), fresh)
            a, b = (
                list(itertools.chain(*(parts if x == cut else (x,) for x in axis)))
                for axis in (a, b)
            )
        if any(self.extents[atom] != 1 for atom in (*a, *b)):
            raise Mismatch
