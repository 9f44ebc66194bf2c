"""Training steps and made-up measurements that the tests of plans share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from offload_layers import layer, loss

from jaxdirect import offload
from jaxdirect.offload import _measure
from jaxdirect.offload._cost import Rates

FAST = Rates(host=1e12, disk=1e11, copy=1e13, flops=1e12)
SLOW = Rates(host=1e3, disk=1e2, copy=1e13, flops=1e12)


def step_of(block: Callable[..., Any], run: Callable[..., Any] = loss) -> Callable[..., Any]:
    """`step(policy, params, x)` of a layer, plain gradient descent."""

    def step(policy: Any, params: Any, x: jax.Array) -> Any:
        value, bars = jax.value_and_grad(run(offload.checkpoint(block, policy)))(params, x)
        return jax.tree.map(lambda p, b: p - 1e-3 * b, params, bars), value

    return step


step = step_of(layer)


def light_layer(matrix: jax.Array, x: jax.Array) -> jax.Array:
    """Two products, quick to compile."""
    up = offload.name(x @ matrix, "up")
    return x + offload.name(jnp.sin(up) @ matrix, "down") ** 2


light = step_of(light_layer)


def make_light(batch: int = 8) -> tuple[jax.Array, jax.Array]:
    """Parameters of 3 light layers and an input, 16 wide."""
    return jnp.ones((3, 16, 16)) / 16, jnp.ones((batch, 16))


def peak_of(step: Any, policy: Any, *args: Any, **options: Any) -> int:
    """Device bytes of the compiled step, by the compiler, without staging; options of `jax.jit`."""
    run = jax.jit(lambda *args: step(policy, *args), **options)
    found = run.lower(*args).compile().memory_analysis()
    whole = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
    return whole - found.alias_size_in_bytes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`clock(seconds, rates)`: steps are compiled, and their time is `seconds(policy)`."""

    def put(seconds: Callable[[offload.Policy], float | None], rates: Rates) -> None:
        monkeypatch.setattr(_measure.Steps, "seconds", lambda _, policy, *sizes: seconds(policy))
        monkeypatch.setattr(_measure.Steps, "rates", lambda _, value_bytes, disk: rates)

    return put


def dear_to_recompute(policy: offload.Policy) -> float:
    """Seconds: moving costs little, computing again much."""
    places = dict(policy.places).values()
    return (
        1
        + 0.001 * sum(p in ("host", "disk") for p in places)
        + 0.1 * list(places).count("recompute")
    )
