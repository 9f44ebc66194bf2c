"""What a plan measures: memory and seconds of compiled steps, and the rates of the device."""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdirect import _compat
from jaxdirect.offload import _tickets, engine
from jaxdirect.offload._cost import Rates
from jaxdirect.offload._trace import quiet
from jaxdirect.offload.policy import Policy

# Of XLA's message for a full device, and of the cache's for staging, slabs and files.
_NO_ROOM = (
    "RESOURCE_EXHAUSTED",
    "host memory limited",
    "bytes of GPU memory for values on their way",
    "bytes of host memory",
    "bytes more in",
)
_PROBE_VALUE_BYTES = 64 << 20
_ROUNDS, _LEAST_ROUNDS, _ROUNDS_S = 15, 3, 2.0
_PROBE_BYTES = 128 << 20
_VALUES = 6  # of a round trip, of which the staging has room for two
_RUNS = 4  # the first one is not counted


class Steps:
    """A training step under any policy: `step(policy, *args)`, compiled, weighed and timed.

    Args:
        step, args: of `plan`.
        donate: numbers of the arguments that the step may overwrite.
        compiler_options: of `plan`.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        args: Sequence[Any],
        donate: tuple[int, ...],
        compiler_options: Mapping[str, Any] | None = None,
    ):
        self._step, self._args, self._donate = step, tuple(args), donate
        self._options = None if compiler_options is None else dict(compiler_options)
        self._last: tuple[Policy, Any] | None = None

    def peak(self, policy: Policy) -> int:
        """Device bytes that the compiled step needs at once, staging not counted."""
        found = self._compiled(policy).memory_analysis()
        parts = found.argument_size_in_bytes, found.output_size_in_bytes, found.temp_size_in_bytes
        return sum(parts) - found.alias_size_in_bytes

    def seconds(self, policy: Policy, needs: int, staging: int = 0) -> float | None:
        """Median seconds of a step.

        None where the device's memory is too small for it, infinity where it failed for want of
        memory on the device or on the host.

        Args:
            policy: the step's.
            needs: its peak in bytes, with the staging.
            staging: bytes of it; 0: what it takes by itself.
        """
        donated = sum(_bytes(self._args[i]) for i in self._donate)  # copies stand beside them
        room = memory_bytes()
        if room is not None and needs + donated > room:
            return None
        compiled = self._compiled(policy)
        found: list[float] = []
        try:
            with engine.staging(staging):
                self._run(compiled)
                while len(found) < _LEAST_ROUNDS or (
                    len(found) < _ROUNDS and sum(found) < _ROUNDS_S
                ):
                    found.append(self._run(compiled))
        except jax.errors.JaxRuntimeError as error:
            if not any(sign in str(error) for sign in _NO_ROOM):
                raise
            engine.clear()  # what the step has stored, nobody comes for
            return math.inf
        return statistics.median(found)

    def rates(self, value_bytes: int, disk: bool) -> Rates:
        """Rates of the default device; a round trip takes values of that size."""
        value_bytes = min(value_bytes, _PROBE_VALUE_BYTES, engine.host_limit_bytes() // 8)
        folders = engine.directories() if disk else ()
        return measured_rates(_compat.default_platform(), value_bytes, folders)

    def _run(self, compiled: Any) -> float:
        args = [
            jax.tree.map(jnp.copy, arg) if i in self._donate else arg
            for i, arg in enumerate(self._args)
        ]
        jax.block_until_ready(args)
        start = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        return time.perf_counter() - start

    def _compiled(self, policy: Policy) -> Any:
        if self._last is None or self._last[0] != policy:
            self._last = None  # its memory goes first
            run = jax.jit(lambda *args: self._step(policy, *args), donate_argnums=self._donate)
            with quiet():
                self._last = policy, run.lower(*self._args).compile(self._options)
        return self._last[1]


def memory_bytes() -> int | None:
    """Of the default device, what JAX may use; None if it does not say."""
    stats = jax.local_devices()[0].memory_stats()
    return stats.get("bytes_limit") if stats else None


def _bytes(tree: Any) -> int:
    return sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(tree))


@functools.cache
def measured_rates(platform: str, value_bytes: int, folders: tuple[str, ...]) -> Rates:
    """Measured once in a process for each size of value, and for the disk's folders if any."""
    value_bytes = max(4096, value_bytes // 4096 * 4096)
    # A GPU is done with one of them about when the next is sent.
    times, width, dtype = (1, 512, "float32") if platform == "cpu" else (16, 4096, "bfloat16")
    numbers = jnp.ones((_PROBE_BYTES // 4,), jnp.float32)
    copy = times * _PROBE_BYTES / _best(_repeated(times, lambda x: x + 1), numbers)
    square = jnp.full((width, width), 1 / width, dtype)
    flops = times * 2 * width**3 / _best(_repeated(times, lambda x: x @ square), square)
    moves = _tickets.available()
    host = _round_trip("host", value_bytes) if moves else copy
    return Rates(host, _round_trip("disk", value_bytes) if moves and folders else None, copy, flops)


def _repeated(times: int, run: Callable[[jax.Array], jax.Array]) -> Callable[..., Any]:
    return jax.jit(lambda x: jax.lax.fori_loop(0, times, lambda _, x: run(x), x))


def _round_trip(place: str, value_bytes: int) -> float:
    """Bytes a second of values that leave and come back, through the cache itself."""
    sites = [_tickets.new_site("(a rate)") for _ in range(_VALUES)]

    @jax.jit
    def there_and_back(x: jax.Array) -> jax.Array:
        values = [x * i for i in range(_VALUES)]
        stored = [_tickets.store(v, s, place) for v, s in zip(values, sites, strict=True)]
        anchor = jnp.stack([value[:1] for value, _ in stored]).sum(0)
        for (value, ticket), site in zip(stored[::-1], sites[::-1], strict=True):
            back = _tickets.fetch(ticket, jax.typeof(value), anchor, site, place)
            anchor = anchor + back[:1]
        return anchor

    def moved() -> int:
        found = engine.stats()
        back = found["fetched_bytes"] - found["forwarded"] * value_bytes
        return found["sent_bytes"] + back

    numbers = jnp.ones((value_bytes // 4,), jnp.float32)
    rates = []
    with engine.staging(0):
        for _ in range(_RUNS):
            before = moved()
            seconds = _timed(there_and_back, numbers)
            rates.append((moved() - before) / seconds)
    return max(rates[1:])


def _best(run: Callable[..., Any], *args: Any) -> float:
    return min([_timed(run, *args) for _ in range(_RUNS)][1:])


def _timed(run: Callable[..., Any], *args: Any) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run(*args))
    return time.perf_counter() - start
