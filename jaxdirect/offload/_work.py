"""What the equations of a jaxpr compute and read and write, about as a compiler would fuse them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Var


@dataclasses.dataclass(frozen=True)
class Moves:
    """What the calls of one site fetch.

    Attributes:
        bytes: of one value, on one device.
        executions: how often, in the whole program.
        waiting: how many values wait at the same time, on one device.
        devices: how many devices do so.
    """

    bytes: int
    executions: int = 1
    waiting: int = 1
    devices: int = 1


@dataclasses.dataclass(frozen=True)
class Work:
    """What a part of a program does.

    Attributes:
        flops: of matrix products and convolutions.
        bytes: read and written.
        temporary: bytes, at most at one time, of what is neither input nor output. Values that
            wait are not among them.
        fetched: by site.
        stored: sites.
    """

    flops: float = 0
    bytes: float = 0
    temporary: float = 0
    fetched: dict[int, Moves] = dataclasses.field(default_factory=dict)
    stored: frozenset[int] = frozenset()

    def __add__(self, other: Work) -> Work:
        fetched = dict(self.fetched)
        for site, moves in other.fetched.items():
            if (own := fetched.get(site)) is not None:
                executions, waiting = own.executions + moves.executions, own.waiting + moves.waiting
                moves = dataclasses.replace(own, executions=executions, waiting=waiting)
            fetched[site] = moves
        return Work(
            self.flops + other.flops,
            self.bytes + other.bytes,
            max(self.temporary, other.temporary),
            fetched,
            self.stored | other.stored,
        )

    def repeated(self, times: int) -> Work:
        """The same a number of times, one after the other."""

        def again(site: int, moves: Moves) -> Moves:
            # What each turn stores and fetches itself waits for no other turn.
            waiting = moves.waiting * (1 if site in self.stored else times)
            executions = moves.executions * times
            return dataclasses.replace(moves, executions=executions, waiting=waiting)

        fetched = {site: again(site, moves) for site, moves in self.fetched.items()}
        flops, bytes_ = self.flops * times, self.bytes * times
        return Work(flops, bytes_, self.temporary, fetched, self.stored)

    def on_devices(self, devices: int) -> Work:
        """The same on each of some devices: what is counted stays that of one."""
        fetched = {
            site: dataclasses.replace(moves, devices=moves.devices * devices)
            for site, moves in self.fetched.items()
        }
        return dataclasses.replace(self, fetched=fetched)


def size(atom: Any) -> int:
    """Bytes of a value."""
    shape, dtype = getattr(atom.aval, "shape", ()), getattr(atom.aval, "dtype", None)
    return math.prod(shape) * getattr(dtype, "itemsize", 0)


# What starts a kernel of its own; all else is taken to be fused with its neighbours.
_HEAVY = (
    "dot_general", "conv_general_dilated", "ffi_call", "custom_call", "pallas_call", "scan",
    "while", "cond", "gather", "scatter", "scatter-add", "scatter_add", "sort", "cumsum", "top_k",
)  # fmt: skip


def _is_heavy(eqn: JaxprEqn) -> bool:
    return eqn.primitive.name in _HEAVY or next(inner(eqn), None) is not None


def inner(eqn: JaxprEqn) -> Iterator[Jaxpr]:
    """The jaxprs of an equation."""
    for value in eqn.params.values():
        for nested in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(nested, ClosedJaxpr):
                yield nested.jaxpr
            elif isinstance(nested, Jaxpr):
                yield nested


def in_memory(jaxpr: Jaxpr) -> set[Var]:
    """Values that are written and read: those that come in, go out, or meet a kernel."""
    found: list[Any] = [*jaxpr.constvars, *jaxpr.invars, *jaxpr.outvars]
    for eqn in jaxpr.eqns:
        if _is_heavy(eqn):
            found += [*eqn.invars, *eqn.outvars]
    return {atom for atom in found if isinstance(atom, Var)}


def of(eqn: JaxprEqn, memory: set[Var]) -> Work:
    """The work of one equation that has no others inside."""
    touched = [atom for atom in (*eqn.invars, *eqn.outvars) if isinstance(atom, Var)]
    return Work(_flops(eqn), sum(size(atom) for atom in touched if atom in memory))


def _flops(eqn: JaxprEqn) -> float:
    if not eqn.outvars:
        return 0.0
    name, out = eqn.primitive.name, math.prod(getattr(eqn.outvars[0].aval, "shape", ()))
    if name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        shape: Any = eqn.invars[0].aval
        return 2.0 * out * math.prod(shape.shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel: Any = eqn.invars[1].aval
        return (
            2.0
            * out
            * math.prod(kernel.shape)
            / kernel.shape[eqn.params["dimension_numbers"].rhs_spec[0]]
        )
    if name.startswith("dot_product_attention"):  # cuDNN's: [batch, steps, heads, width]
        query, key = (atom.aval.shape for atom in eqn.invars[:2])  # type: ignore[attr-defined]
        return (10.0 if "bwd" in name else 4.0) * math.prod(query) * key[1]
    return 0.0
