"""Named values in a jaxpr: finding them, and running it with them taken out or put in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from jaxdirect import _compat

# What happens at a named value: its position among those of the jaxpr, name and value to what is
# used from there on.
Visit = Callable[[int, str, jax.Array], jax.Array]


def _inner(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """The jaxpr of a nested call that is run in place, so that its names are seen."""
    if eqn.primitive.name in ("jit", "pjit", "closed_call"):
        return eqn.params.get("jaxpr") or eqn.params.get("call_jaxpr")
    return None


def named(jaxpr: Jaxpr) -> Iterator[tuple[str, Any]]:
    """Names and types of its named values, in order."""
    for eqn in jaxpr.eqns:
        if (name := _compat.checkpoint_name(eqn)) is not None:
            yield name, eqn.outvars[0].aval
        elif (inner := _inner(eqn)) is not None:
            yield from named(inner.jaxpr)


def hidden(jaxpr: Jaxpr) -> Iterator[str]:
    """Names of values in loops, branches and custom derivatives, which cannot be moved there."""
    for eqn in jaxpr.eqns:
        inner = _inner(eqn)
        if inner is not None:
            yield from hidden(inner.jaxpr)
            continue
        for nested in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(nested):
                body = nested.jaxpr if isinstance(nested, ClosedJaxpr) else nested
                yield from (name for name, _ in named(body))
                yield from hidden(body)


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, (Jaxpr, ClosedJaxpr))


def variables(jaxpr: Jaxpr) -> list[Var]:
    """Its inputs: what it closes over, then its arguments."""
    return [*jaxpr.constvars, *jaxpr.invars]


class Run:
    """Evaluates a jaxpr, calling `visit` at each of its named values.

    A nested call that holds names is run in place; all else is bound as it stands.
    """

    def __init__(self, visit: Visit):
        self._visit = visit
        self._count = 0

    def __call__(self, jaxpr: Jaxpr, inputs: Sequence[Any]) -> list[Any]:
        values: dict[Var, Any] = dict(zip(variables(jaxpr), inputs, strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, Literal) else values[atom]

        for eqn in jaxpr.eqns:
            operands = [read(atom) for atom in eqn.invars]
            name, inner = _compat.checkpoint_name(eqn), _inner(eqn)
            if name is not None:
                results = [self._visit(self._count, name, operands[0])]
                self._count += 1
            elif inner is not None and any(True for _ in named(inner.jaxpr)):
                results = self(inner.jaxpr, [*inner.consts, *operands])
            else:
                results = _compat.bind(eqn, operands)
            values.update(zip(eqn.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]


def needed(jaxpr: Jaxpr) -> list[bool]:
    """Which of its inputs any output depends on."""
    live = {atom for atom in jaxpr.outvars if isinstance(atom, Var)}
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or any(out in live for out in eqn.outvars):
            live.update(atom for atom in eqn.invars if isinstance(atom, Var))
    return [var in live for var in variables(jaxpr)]
