"""What a training step has to do if some of its named values are computed again.

The step was traced with every named value moving (`_tickets.planning`), so that at each of them
stand, side by side, what waited and what it is computed again from. Which of the two is used is
the question of which equations are needed, asked from the outputs backwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from jax.extend.core import Jaxpr, JaxprEqn, Var

from jaxdirect import _compat
from jaxdirect.offload import _tickets, _work
from jaxdirect.offload._work import Moves, Work

Answer = tuple[list[bool], Work]  # which inputs are needed, and the work


class Live:
    """Counts the work of what is needed.

    Args:
        recomputed: names of values that are computed again.
        forward: count only what the stored values need; else, what is asked for.
    """

    def __init__(self, recomputed: frozenset[str] = frozenset(), forward: bool = False):
        self._recomputed = recomputed
        self._forward = forward
        self._known: dict[tuple[int, tuple[bool, ...]], Answer] = {}

    def __call__(self, jaxpr: Jaxpr, wanted: Sequence[bool]) -> Answer:
        key = id(jaxpr), tuple(wanted)
        if key not in self._known:
            self._known[key] = self._count(jaxpr, wanted)
        return self._known[key]

    def _count(self, jaxpr: Jaxpr, wanted: Sequence[bool]) -> Answer:
        memory = _work.in_memory(jaxpr)
        fetched = {
            eqn.outvars[0]: site(eqn) for eqn in jaxpr.eqns if _target(eqn) == _tickets.FETCH
        }
        live = {a for a, need in zip(jaxpr.outvars, wanted, strict=True) if need and _is(a)}
        total, alive = Work(), _Alive(memory - {*jaxpr.constvars, *jaxpr.invars, *live})
        for eqn in reversed(jaxpr.eqns):
            outs = [out in live for out in eqn.outvars]
            has_inner = next(_work.inner(eqn), None) is not None
            if any(outs) or _target(eqn) == _tickets.STORE or has_inner or eqn.effects:
                ins, work = self._equation(eqn, outs, memory, fetched)
                total += work
                found = zip(eqn.invars, ins, strict=True)
                needed = {a for a, need in found if need and isinstance(a, Var)}
                live |= needed
                alive.pass_by(eqn, needed, work.temporary)
        total = dataclasses.replace(total, temporary=alive.most)
        return [var in live for var in jaxpr.invars], total

    def _equation(self, eqn: JaxprEqn, outs: list[bool], memory: Any, fetched: Any) -> Answer:
        match eqn.primitive.name:
            case "optimization_barrier":
                if len(outs) == 2 and (number := _get(fetched, eqn.invars[1])) is not None:
                    again = _tickets.name_of(number) in self._recomputed
                    return [outs[1] and again, outs[1] and not again], Work()
                return outs, Work()
            case "scan":
                return self._scan(eqn, outs)
            case "cond":
                return self._cond(eqn, outs)
            case "while":
                bodies = [self(one, [True] * len(one.outvars))[1] for one in _work.inner(eqn)]
                used = any(outs) or any(body.stored for body in bodies)
                return [used] * len(eqn.invars), sum(bodies, Work()) if used else Work()
        if (target := _target(eqn)) == _tickets.STORE:
            return [outs[0] or self._forward], Work(stored=frozenset({site(eqn)}))
        if target == _tickets.FETCH:
            return [any(outs)] * 2, Work(fetched={site(eqn): Moves(_work.size(eqn.outvars[0]))})
        nested = [one for one in _work.inner(eqn) if _fits(one, eqn)]
        if nested and eqn.primitive.name != "pallas_call":
            ins, work = self(nested[0], outs)
            mesh = eqn.params.get("mesh") if eqn.primitive.name == "shard_map" else None
            return ins, work if mesh is None else work.on_devices(mesh.size)
        used = any(outs) or bool(eqn.effects)
        return [used] * len(eqn.invars), _work.of(eqn, memory) if used else Work()

    def _scan(self, eqn: JaxprEqn, outs: list[bool]) -> Answer:
        body, (consts, carried) = next(_work.inner(eqn)), _compat.scan_counts(eqn)
        wanted = list(outs)
        while True:
            ins, work = self(body, wanted)
            carry = ins[consts : consts + carried]
            if all(w or not c for w, c in zip(wanted, carry, strict=False)):
                return ins, work.repeated(eqn.params["length"])
            wanted[:carried] = [w or c for w, c in zip(wanted, carry, strict=False)]

    def _cond(self, eqn: JaxprEqn, outs: list[bool]) -> Answer:
        total, needed = Work(), [False] * (len(eqn.invars) - 1)
        for branch in _work.inner(eqn):
            ins, work = self(branch, outs)
            needed = [a or b for a, b in zip(needed, ins, strict=True)]
            total = _larger(total, work)
        return [any(outs) or any(needed), *needed], total


def _larger(one: Work, other: Work) -> Work:
    """Work of the more expensive of two branches, with what is more of each name in either."""
    heavy, light = sorted((one, other), key=lambda work: (work.flops, work.bytes))[::-1]
    fetched = _by_name(heavy)
    for name, moves in _by_name(light).items():
        if _held(moves) > _held(fetched.get(name, {})):
            fetched[name] = moves
    return dataclasses.replace(
        heavy,
        fetched={n: m for moves in fetched.values() for n, m in moves.items()},
        stored=heavy.stored | light.stored,
        temporary=max(heavy.temporary, light.temporary),
    )


def _by_name(work: Work) -> dict[str, dict[int, Moves]]:
    found: dict[str, dict[int, Moves]] = {}
    for number, moves in work.fetched.items():
        found.setdefault(_tickets.name_of(number), {})[number] = moves
    return found


def _held(moves: dict[int, Moves]) -> int:
    return sum(m.bytes * m.waiting for m in moves.values())


class _Alive:
    """Bytes of values between their equation and the last that needs them, seen backwards."""

    def __init__(self, counted: set[Var]):
        self._counted, self._alive = counted, set()
        self._bytes, self.most = 0, 0.0

    def pass_by(self, eqn: JaxprEqn, needed: set[Var], temporary: float) -> None:
        more = (needed & self._counted) - self._alive
        self._alive |= more
        self._bytes += sum(map(_work.size, more))
        self.most = max(self.most, self._bytes + temporary)
        made = self._alive & set(eqn.outvars)
        self._alive -= made
        self._bytes -= sum(map(_work.size, made))


def site(eqn: JaxprEqn) -> int:
    """The site of a call that stores or fetches."""
    return int(dict(eqn.params["attributes"])["site"])


def _target(eqn: JaxprEqn) -> str | None:
    return eqn.params["target_name"] if eqn.primitive.name == "ffi_call" else None


def _get(found: dict[Var, int], atom: Any) -> int | None:
    return found.get(atom) if _is(atom) else None


def _is(atom: Any) -> bool:
    return isinstance(atom, Var)


def _fits(jaxpr: Jaxpr, eqn: JaxprEqn) -> bool:
    return (len(jaxpr.invars), len(jaxpr.outvars)) == (len(eqn.invars), len(eqn.outvars))
