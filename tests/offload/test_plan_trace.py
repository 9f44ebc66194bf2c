"""What a plan reads from a step: names, bytes, what is needed, what computing again would do."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from offload_layers import BATCH, DEPTH, WIDTH, layer, loss, make
from plan_steps import step, step_of

from jaxdirect import offload
from jaxdirect.offload._trace import PAGE, trace

NONE = frozenset()
UP = 4 * BATCH * 2 * WIDTH  # bytes of one `up`


def read(step, *args):
    return trace(step, args)


def test_names_in_order_and_bytes_of_a_scan():
    traced = read(step, *make())
    assert traced.names == ("input", "up", "nested", "down")
    sizes = traced.bytes(NONE)
    assert [sizes[name].moved for name in traced.names] == [
        DEPTH * UP // 2, DEPTH * UP, DEPTH * UP, DEPTH * UP // 2,
    ]  # fmt: skip
    assert sizes["up"].waiting == sizes["up"].moved
    assert (sizes["up"].largest, sizes["up"].count) == (UP, DEPTH)
    assert sizes["up"].host == DEPTH * PAGE  # each takes pages of its own


@pytest.mark.parametrize("unroll", [2, True])
def test_an_unrolled_scan_has_the_same_bytes(unroll):
    unrolled = step_of(layer, functools.partial(loss, unroll=unroll))
    assert read(unrolled, *make()).bytes(NONE) == read(step, *make()).bytes(NONE)


def test_layers_of_layers_all_wait():
    def twice(block):
        def run(params, x):
            def all_layers(x, _):
                return jax.lax.scan(lambda x, p: (block(p, x), None), x, params)

            y, _ = jax.lax.scan(all_layers, x, None, length=3)
            return (y**2).sum()

        return run

    sizes = read(step_of(layer, twice), *make()).bytes(NONE)
    assert sizes["up"].moved == sizes["up"].waiting == 3 * DEPTH * UP


def test_turns_of_gradient_accumulation_do_not_wait_for_each_other():
    def accumulated(policy, params, xs):
        return jax.lax.scan(lambda p, x: step(policy, p, x), params, xs)

    params, x = make()
    size = read(accumulated, params, jnp.stack([x] * 4)).bytes(NONE)["up"]
    assert size.moved == 4 * DEPTH * UP
    assert size.waiting == DEPTH * UP
    assert size.count == 4 * DEPTH


def test_a_layer_used_twice():
    def run(block):
        def both(params, x):
            once = loss(block)
            return once(params, x) + once(params, 2 * x)

        return both

    assert read(step_of(layer, run), *make()).bytes(NONE)["up"].moved == 2 * DEPTH * UP


def test_a_jitted_layer_called_twice():
    def run(block):
        again = jax.jit(block)

        def both(params, x):
            first = jax.tree.map(lambda p: p[0], params)
            return again(first, again(first, x)).sum()

        return both

    assert read(step_of(layer, run), *make()).bytes(NONE)["up"].moved == 2 * UP


def test_vmap_moves_all_of_a_batch_at_once():
    def many(policy, params, xs):
        return jax.vmap(lambda x: step(policy, params, x))(xs)

    params, x = make()
    size = read(many, params, jnp.stack([x] * 3)).bytes(NONE)["up"]
    assert size.moved == 3 * DEPTH * UP
    assert size.largest == 3 * UP


def test_shard_map_counts_one_device_and_the_host_memory_of_all():
    devices = jax.devices() if len(jax.devices()) > 1 else jax.devices("cpu")
    mesh = Mesh(np.array(devices[:2]), ("d",))
    specs = {"in_specs": (PartitionSpec(), PartitionSpec("d")), "out_specs": PartitionSpec()}

    def gradient(policy, params, x):
        def run(p, x):
            return jax.lax.psum(loss(offload.checkpoint(layer, policy))(p, x), "d")

        return jax.grad(jax.shard_map(run, mesh=mesh, **specs))(params, x)

    params, x = make()
    size = read(gradient, params, jnp.concatenate([x, x])).bytes(NONE)["up"]
    assert size.moved == DEPTH * UP
    assert size.host == 2 * DEPTH * PAGE


def test_the_larger_branch_counts():
    def run(block):
        def either(params, x):
            first = jax.tree.map(lambda p: p[0], params)
            once = functools.partial(block, first)
            return jax.lax.cond(x[0, 0] > 0, lambda x: once(once(x)), once, x).sum()

        return either

    assert read(step_of(layer, run), *make()).bytes(NONE)["up"].moved == 2 * UP


def test_what_is_needed_depends_on_the_others():
    def chained(params, x):
        product = offload.name(x @ params["up"], "product")
        moved = offload.name(product + 1, "moved")
        return jnp.tanh(moved**3 @ params["down"])

    traced = read(step_of(chained), *make())
    assert traced.names == ("product", "moved")
    assert set(traced.bytes(NONE)) == {"moved"}
    assert set(traced.bytes(frozenset({"moved"}))) == {"product"}


def test_recomputing_a_product_is_its_flops():
    traced = read(step, *make())
    kept = traced.work(NONE).flops
    again = {name: traced.work(frozenset({name})).flops - kept for name in traced.names}
    product = 2 * BATCH * WIDTH * 2 * WIDTH * DEPTH
    assert again == {"input": 0, "up": product, "nested": 0, "down": product}
    assert traced.work(frozenset(traced.names)).flops - kept == 2 * product


def test_all_flops_of_a_step():
    traced = read(step, *make())
    product = 2 * BATCH * WIDTH * 2 * WIDTH * DEPTH
    assert traced.forward.flops == 2 * product
    assert traced.work(NONE).flops == 3 * 2 * product  # one forward, two backward for each


def test_flops_of_a_convolution():
    def convolved(kernel, x):
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID")
        return jnp.sin(offload.name(y, "conv"))

    def plain(policy, kernel, x):
        return jax.grad(lambda k: offload.checkpoint(convolved, policy)(k, x).sum())(kernel)

    traced = read(plain, jnp.ones((5, 3, 2, 2)), jnp.ones((1, 3, 6, 6)))
    kept, again = traced.work(NONE), traced.work(frozenset({"conv"}))
    assert again.flops - kept.flops == 2 * (5 * 5 * 5) * (3 * 2 * 2)


def test_tracing_for_a_plan_leaves_what_runs_alone():
    params, x = make()
    policy = offload.Policy(host=["up"])
    before = jax.jit(lambda *args: step(policy, *args)).lower(params, x).as_text()
    read(step, params, x)
    after = jax.jit(lambda *args: step(policy, *args)).lower(params, x).as_text()
    assert before.count("optimization_barrier") == after.count("optimization_barrier")
