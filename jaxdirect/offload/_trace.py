"""A training step, read: its named values, their bytes, and what computing them again would do."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import Jaxpr

from jaxdirect.offload import _tickets, _work
from jaxdirect.offload._live import Live, site
from jaxdirect.offload._work import Moves, Work
from jaxdirect.offload.policy import Policy

PAGE = 4096  # host memory and files are taken in multiples of it (`ffi/offload/slabs.cc`)


@dataclasses.dataclass(frozen=True)
class Bytes:
    """Of the values of a name that a backward pass takes.

    Attributes:
        moved: of all executions in a step, on one device.
        waiting: at the same time, on one device.
        host: host memory or disk that they take while they wait, of all devices.
        largest: of one value.
        count: how many values move in a step, on one device.
    """

    moved: int = 0
    waiting: int = 0
    host: int = 0
    largest: int = 0
    count: int = 0

    def __add__(self, other: Bytes) -> Bytes:
        return Bytes(
            self.moved + other.moved,
            self.waiting + other.waiting,
            self.host + other.host,
            max(self.largest, other.largest),
            self.count + other.count,
        )


class Trace:
    """The jaxpr of a step whose named values all move."""

    def __init__(self, jaxpr: Jaxpr):
        self._jaxpr = jaxpr
        sites = dict.fromkeys(_tickets.name_of(number) for number in _sites(jaxpr))
        self.names = tuple(sites)
        self._works: dict[frozenset[str], Work] = {}
        self._bytes: dict[frozenset[str], dict[str, Bytes]] = {}

    @functools.cached_property
    def forward(self) -> Work:
        """Work before the backward pass: what the named values are computed from."""
        return self._count(Live(forward=True), False)

    def work(self, recomputed: frozenset[str]) -> Work:
        """Work of the whole step if these names are computed again."""
        if recomputed not in self._works:
            self._works[recomputed] = self._count(Live(recomputed), True)
        return self._works[recomputed]

    def bytes(self, recomputed: frozenset[str]) -> dict[str, Bytes]:
        """Of the other names those that the backward pass takes, with their bytes."""
        if recomputed in self._bytes:
            return self._bytes[recomputed]
        found: dict[str, Bytes] = {}
        for number, moves in self.work(recomputed).fetched.items():
            name = _tickets.name_of(number)
            found[name] = found.get(name, Bytes()) + _bytes(moves)
        ordered = {name: found[name] for name in self.names if name in found}
        self._bytes[recomputed] = ordered
        return ordered

    def _count(self, live: Live, wanted: bool) -> Work:
        return live(self._jaxpr, [wanted] * len(self._jaxpr.outvars))[1]


class _AllMove(Policy):
    """Unlike any policy that runs: a jitted step must not take one's trace for the other's."""


def trace(step: Callable[..., Any], args: tuple[Any, ...]) -> Trace:
    """Reads `step(policy, *args)`."""
    with quiet(), _tickets.planning():
        # A function of its own: what was traced to run is not what is read.
        closed = jax.make_jaxpr(lambda *args: step(_AllMove(default="host"), *args))(*args)
    return Trace(closed.jaxpr)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """While it lasts, `checkpoint` does not warn of names: the plan says what became of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="checkpoint: ")
        yield


def _sites(jaxpr: Jaxpr) -> Iterator[int]:
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "ffi_call" and eqn.params["target_name"] == _tickets.STORE:
            yield site(eqn)
        for nested in _work.inner(eqn):
            yield from _sites(nested)


def _bytes(moves: Moves) -> Bytes:
    page = -(-moves.bytes // PAGE) * PAGE
    return Bytes(
        moved=moves.bytes * moves.executions,
        waiting=moves.bytes * moves.waiting,
        host=page * moves.waiting * moves.devices,
        largest=moves.bytes,
        count=moves.executions,
    )
