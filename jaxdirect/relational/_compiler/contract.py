"""A pass: products, sums of products and what only moves axes, as one contraction each.

What was `(x @ W).reshape(heads, -1) * a` and its sum over the last axis becomes one `Contract` of
x, W and a, whose order is then free: linear operator reordering.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from jaxdirect.relational._compiler import ir
from jaxdirect.relational._compiler.product import Axis, Mismatch, Product

# Primitives that the pass knows, each by a method of its name.
_RULES = {"mul", "neg", "dot_general", "reduce_sum"}
_RULES |= {"broadcast_in_dim", "reshape", "squeeze", "transpose"}


class Contractions:
    """The pass; `run` is its door."""

    def __init__(self) -> None:
        self._fresh = itertools.count()
        self._known: dict[ir.Value, Product] = {}

    def run(self, program: ir.Program) -> ir.Program:
        """The program with its products gathered."""
        new: dict[ir.Value, ir.Value] = {}
        values = program.values()
        wanted = {*program.results}
        wanted |= {o for v in values if self._rule(v) is None for o in v.operands}
        for value in values:
            old = ir.with_operands(value, [new.get(o, o) for o in value.operands])
            rule = self._rule(value)
            if rule is None:
                new[value] = old
                self._known[value] = self._leaf(new[value])
                continue
            self._known[value] = self._product(value, old, rule)
            if value in wanted:
                new[value] = self._contract(value, self._known[value])
        return ir.Program(tuple(new[result] for result in program.results))

    def _leaf(self, value: ir.Value) -> Product:
        atoms = [next(self._fresh) for _ in value.shape]
        axes = [(atom,) for atom in atoms]
        return Product([(value, axes)], list(axes), dict(zip(atoms, value.shape, strict=True)))

    def _rule(self, value: ir.Value) -> Callable[..., Product] | None:
        if not isinstance(value, ir.Apply) or not jnp.issubdtype(value.dtype, jnp.floating):
            return None
        if any(o.dtype != value.dtype for o in value.operands):
            return None
        name = value.eqn.primitive.name
        return getattr(self, f"_{name}") if name in _RULES else None

    def _product(self, value: ir.Value, old: ir.Value, rule: Callable[..., Product]) -> Product:
        operands = [self._copy(self._known[o]) for o in value.operands]
        try:
            found = rule(value, *operands)
            if [found.length(axis) for axis in found.out] == list(value.shape):
                return found
        except Mismatch:
            pass
        # It stays as it is, of operands that then have to be there.
        ready = [self._contract(o, self._known[o]) for o in value.operands]
        return self._leaf(ir.with_operands(old, ready))

    def _copy(self, product: Product) -> Product:
        """The same with atoms of its own."""
        new = {atom: next(self._fresh) for atom in product.extents}

        def moved(axes: list[Axis]) -> list[Axis]:
            return [tuple(new[a] for a in axis) for axis in axes]

        terms = [(value, moved(axes)) for value, axes in product.terms]
        extents = {new[a]: n for a, n in product.extents.items()}
        return Product(terms, moved(product.out), extents, product.scale)

    def _contract(self, value: ir.Value, product: Product) -> ir.Value:
        """The value of a product: its terms in the shapes of their atoms, contracted."""
        terms, labels = [], []
        for term, axes in product.terms:
            atoms = [atom for axis in axes for atom in axis if product.extents[atom] != 1]
            shape = tuple(product.extents[atom] for atom in atoms)
            terms.append(_reshaped(term, shape))
            labels.append(tuple(atoms))
        flat = [atom for axis in product.out for atom in axis if product.extents[atom] != 1]
        used = {atom for each in labels for atom in each}
        if not set(flat) <= used or len(set(flat)) != len(flat):
            return self._broadcast(value, product, terms, labels, flat)
        if product.scale != 1:
            number = np.asarray(product.scale, value.dtype)
            terms.append(ir.Input(frozenset(), (), value.dtype, literal=number))
            labels.append(())
        if len(terms) == 1 and labels[0] == tuple(flat):
            return _reshaped(terms[0], value.shape)
        shape = tuple(product.extents[atom] for atom in flat)
        found = ir.Contract(
            ir.joined(term.scope for term in terms),
            *(shape, value.dtype, tuple(terms), value.line),
            terms=tuple(labels),
            out=tuple(flat),
        )
        return _reshaped(found, value.shape)

    def _broadcast(self, value, product, terms, labels, flat) -> ir.Value:
        """Axes that no term has: ones stand for them."""
        used = {atom for each in labels for atom in each}
        missing = [atom for atom in dict.fromkeys(flat) if atom not in used]
        if len(set(flat)) != len(flat):
            raise AssertionError("an axis twice in a result")
        shape = tuple(product.extents[atom] for atom in missing)
        ones = ir.Input(frozenset(), shape, value.dtype, literal=np.ones(shape, value.dtype))
        whole = Product(
            [*product.terms, (ones, [(atom,) for atom in missing])],
            product.out,
            product.extents,
            product.scale,
        )
        return self._contract(value, whole)

    def _mul(self, value: ir.Value, a: Product, b: Product) -> Product:
        both = Product([*a.terms, *b.terms], [*a.out], a.extents | b.extents, a.scale * b.scale)
        if not b.out:
            return both
        if not a.out:
            both.out = [*b.out]
            return both
        a_axes, b_axes = len(a.out), len(b.out)
        both.out = [*a.out, *b.out]
        if a_axes != b_axes:
            raise Mismatch
        for axis in range(a_axes):
            one, other = both.out[axis], both.out[a_axes + axis]
            if both.length(one) == 1:  # stretched
                both.out[axis] = other
            elif both.length(other) != 1:
                both.unify(one, other, self._fresh)
        both.out = both.out[:a_axes]
        return both

    def _neg(self, value: ir.Value, a: Product) -> Product:
        return dataclasses.replace(a, scale=-a.scale)

    def _transpose(self, value: ir.Apply, a: Product) -> Product:
        return dataclasses.replace(a, out=[a.out[i] for i in value.eqn.params["permutation"]])

    def _reduce_sum(self, value: ir.Apply, a: Product) -> Product:
        gone = value.eqn.params["axes"]
        used = {atom for _, axes in a.terms for axis in axes for atom in axis}
        for axis in gone:
            for atom in a.out[axis]:
                if atom not in used:
                    a.scale *= a.extents[atom]
        return dataclasses.replace(a, out=[x for i, x in enumerate(a.out) if i not in gone])

    def _squeeze(self, value: ir.Apply, a: Product) -> Product:
        gone = value.eqn.params["dimensions"]
        return dataclasses.replace(a, out=[x for i, x in enumerate(a.out) if i not in gone])

    def _broadcast_in_dim(self, value: ir.Apply, a: Product) -> Product:
        to = dict(zip(value.eqn.params["broadcast_dimensions"], a.out, strict=True))
        out = []
        for axis, extent in enumerate(value.shape):
            if axis in to and a.length(to[axis]) == extent:
                out.append(to[axis])
            else:
                atom = next(self._fresh)
                a.extents[atom] = extent
                out.append((atom,))
        return dataclasses.replace(a, out=out)

    def _reshape(self, value: ir.Apply, a: Product) -> Product:
        if value.eqn.params.get("dimensions") is not None:
            raise Mismatch
        atoms = [atom for axis in a.out for atom in axis if a.extents[atom] != 1]
        a.out = [tuple(atoms)]
        wanted = []
        for extent in value.shape:
            atom = next(self._fresh)
            a.extents[atom] = extent
            wanted.append((atom,))
        a.out = [a.out[0], *wanted]
        long = tuple(atom for axis in wanted for atom in axis if a.extents[atom] != 1)
        a.unify(a.out[0], long, self._fresh)
        a.out = a.out[1:]
        return a

    def _dot_general(self, value: ir.Apply, a: Product, b: Product) -> Product:
        (a_sum, b_sum), (a_batch, b_batch) = value.eqn.params["dimension_numbers"]
        both = Product(
            [*a.terms, *b.terms], [*a.out, *b.out], a.extents | b.extents, a.scale * b.scale
        )
        count = len(a.out)
        for i, j in zip([*a_sum, *a_batch], [*b_sum, *b_batch], strict=True):
            both.unify(both.out[i], both.out[count + j], self._fresh)
        rest_a = [i for i in range(count) if i not in (*a_sum, *a_batch)]
        rest_b = [count + j for j in range(len(b.out)) if j not in (*b_sum, *b_batch)]
        both.out = [both.out[i] for i in (*a_batch, *rest_a, *rest_b)]
        return both


def _reshaped(value: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    if value.shape == shape:
        return value
    if isinstance(value, ir.Reshape):
        return _reshaped(value.operands[0], shape)
    return ir.Reshape(value.scope, shape, value.dtype, (value,), value.line)


def run(program: ir.Program) -> ir.Program:
    """The pass."""
    return Contractions().run(program)
