"""The cache: what it counts, what it refuses, and that it holds on to nothing."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import pytest
from offload_layers import (
    BATCH,
    DEPTH,
    WIDTH,
    assert_close,
    assert_same_bits,
    gradients,
    jit,
    layer,
    loss,
    make,
)

from jaxdirect import offload

NO_LIMIT = 1 << 62
BYTES = 4 * BATCH * 2 * WIDTH  # of `up`
ours = offload.checkpoint(layer, offload.Policy(host=["up"]))


def counted(before):
    return {name: value - before[name] for name, value in offload.stats().items()}


def test_values_come_from_the_staging_and_back_in_time():
    params, x = make()
    step = gradients(ours)
    jax.block_until_ready(step(params, x))
    before = offload.stats()
    jax.block_until_ready(step(params, x))
    found = counted(before)
    assert found["stored"] == found["fetched"] == DEPTH
    assert found["stored_bytes"] == found["fetched_bytes"] == DEPTH * BYTES
    assert found["forwarded"] >= 2
    assert found["forwarded"] + found["prefetched"] == DEPTH


def test_many_steps_leave_memory_as_after_the_first():
    params, x = make()
    step = gradients(ours)
    first = jax.block_until_ready(step(params, x))
    before = offload.stats()
    for _ in range(200):
        last = step(params, x)
    assert_same_bits(last, first)
    found = counted(before)
    assert found["host_bytes"] == found["used_host_bytes"] == found["staging_bytes"] == 0
    assert found["stored"] == 200 * DEPTH


def test_steps_in_flight_do_not_mix():
    params, x = make()
    step = jit(jax.grad(loss(ours), (0, 1)))
    want = jax.block_until_ready(step(params, x))
    found = [step(params, x) for _ in range(12)]
    for got in found:
        assert_same_bits(got, want)


def test_ten_thousand_steps_leave_everything_as_after_the_first(tmp_path):
    offload.configure(directory=tmp_path)
    block = offload.checkpoint(
        lambda w, x: x + jnp.sin(offload.name(jnp.cos(offload.name(x * w, "up")), "down")),
        offload.Policy(host=["up"], disk=["down"]),
    )
    weights, x = jnp.linspace(0.5, 1.5, 3), jnp.linspace(-1, 1, 8)

    def descend(w, _):
        bar = jax.grad(lambda w: jax.lax.scan(lambda x, w: (block(w, x), None), x, w)[0].sum())(w)
        return w - 1e-3 * bar, None

    run = jax.jit(lambda w: jax.lax.scan(descend, w, length=100)[0])
    weights = jax.block_until_ready(run(weights))
    before, files = offload.stats(), len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        weights = run(weights)
    assert jnp.isfinite(jax.block_until_ready(weights)).all()
    found = counted(before)
    for kind in ("host_bytes", "used_host_bytes", "staging_bytes", "disk_file_bytes"):
        assert found[kind] <= 8 * 4096, kind  # those on their way to disk come and go
    assert found["stored"] == found["fetched"] == 60_000
    assert len(os.listdir("/proc/self/fd")) <= files + 2
    offload.configure(directory=[])


def test_a_limit_below_what_a_step_needs():
    params, x = make()
    offload.configure(host_limit_bytes=2 * 4096)
    try:
        with pytest.raises(Exception, match=r"host memory limited to 8192 bytes; raise offload"):
            jax.block_until_ready(gradients(ours)(params, x))
    finally:
        offload.configure(host_limit_bytes=NO_LIMIT)
    assert offload.stats()["used_host_bytes"] == 2 * 4096
    offload.clear()  # the step that failed fetches nothing


def test_a_backward_pass_in_another_program():
    params, x = make()
    _, pull = jax.vjp(loss(ours), params, x)
    with pytest.raises(Exception, match=r"wrap the whole step in jax\.jit"):
        jax.block_until_ready(pull(jnp.float32(1)))
    offload.clear()


def test_forward_passes_alone_do_not_pile_up():
    params, x = make()
    forward = jax.jit(lambda p, x: jax.vjp(loss(ours), p, x))
    for _ in range(50):
        jax.block_until_ready(forward(params, x))
    assert offload.stats()["waiting"] <= 33 * DEPTH
    offload.clear()


@pytest.mark.parametrize("limit", [0, -1])
def test_limits_that_are_none(limit):
    with pytest.raises(ValueError, match=f"must be positive, got {limit}"):
        offload.configure(host_limit_bytes=limit)


def test_values_of_many_sizes():
    def block(p, x):
        wide = offload.name(jnp.concatenate([x] * 5, axis=1), "wide")
        narrow = offload.name(jnp.sin(wide[:, : 2 * WIDTH]) @ p["down"], "narrow")
        return x + jnp.tanh(narrow) * wide.sum(1, keepdims=True) * jnp.cos(narrow)

    params, x = make()
    policy = offload.Policy(host=["wide", "narrow"])
    save = jax.checkpoint_policies.save_only_these_names("wide", "narrow")
    want = gradients(jax.checkpoint(block, policy=save))(params, x)
    assert_close(gradients(offload.checkpoint(block, policy))(params, x), want)
