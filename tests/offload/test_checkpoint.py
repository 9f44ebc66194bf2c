"""Gradients are those of saving the same names, bit for bit, wherever a layer stands."""

from __future__ import annotations

import functools
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec
from offload_layers import (
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

NAMES = ("input", "up", "nested", "down")
save = jax.checkpoint_policies.save_only_these_names


def saved(block, *names):
    """JAX's own way to keep the same names."""
    return jax.checkpoint(block, policy=save(*names))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("moved", [(), *((name,) for name in NAMES), NAMES[:2], NAMES])
def test_any_names(moved, dtype):
    params, x = make(dtype=dtype)
    ours = offload.checkpoint(layer, offload.Policy(host=moved))
    before = offload.stats()["stored"]
    assert_same_bits(gradients(ours)(params, x), gradients(saved(layer, *moved))(params, x))
    assert offload.stats()["stored"] - before == DEPTH * len(moved)


@pytest.mark.parametrize("unroll", [1, 2, 4, True])
@pytest.mark.parametrize("prevent_cse", [True, False])
def test_unrolled_loops(unroll, prevent_cse):
    params, x = make()
    policy = offload.Policy(host=["up"], keep=["nested"])
    ours = offload.checkpoint(layer, policy, prevent_cse=prevent_cse)
    want = gradients(saved(layer, "up", "nested"), unroll)(params, x)
    assert_same_bits(gradients(ours, unroll)(params, x), want)


def test_nothing_falls_back_to_recomputing_all():
    params, x = make()

    def products(block):
        step = jit(jax.grad(loss(block), (0, 1)))
        text = step.lower(params, x).compile().as_text()
        return len(re.findall(r"\bdot\(|custom_call_target=\"__cublas", text))

    ours = products(offload.checkpoint(layer, offload.Policy(host=["input", "up", "nested"])))
    kept, all_again = (
        products(block) for block in (saved(layer, "input", "up", "nested"), jax.checkpoint(layer))
    )
    assert ours == kept < all_again


def test_what_is_kept_is_not_stored():
    params, x = make()
    before = offload.stats()["stored"]
    gradients(offload.checkpoint(layer, offload.Policy(default="keep")))(params, x)
    assert offload.stats()["stored"] == before


def test_a_default_place():
    params, x = make()
    before = offload.stats()["stored"]
    ours = gradients(offload.checkpoint(layer, offload.Policy(recompute=["up"], default="host")))
    assert_same_bits(ours(params, x), gradients(saved(layer, "input", "nested", "down"))(params, x))
    assert offload.stats()["stored"] - before == 3 * DEPTH


def test_bare_layers_and_one_used_twice():
    params, x = make()
    first, second = (jax.tree.map(lambda p, i=i: p[i], params) for i in (0, 1))

    def twice(block, params, x):
        return (block(params[0], block(params[1], block(params[0], x))) ** 2).sum()

    ours, theirs = offload.checkpoint(layer, offload.Policy(host=["up"])), saved(layer, "up")
    got, want = (
        jit(jax.grad(functools.partial(twice, b)))((first, second), x) for b in (ours, theirs)
    )
    assert_same_bits(got, want)


def test_layers_close_over_arrays():
    params, x = make()
    scale = jnp.full((1, WIDTH), 1.5)

    def both(wrap):
        def run(scale, params, x):
            block = wrap(lambda p, x: layer(p, x * scale))
            return loss(block)(params, x)

        return jit(jax.grad(run, (0, 1)))(scale, params, x)

    got = both(lambda block: offload.checkpoint(block, offload.Policy(host=["up"])))
    assert_close(got, both(lambda block: saved(block, "up")))


def test_static_arguments_keywords_and_trees():
    def block(params, kind, x, *, power, flag=True):
        h = offload.name(x["a"] @ params["up"][0], "up")
        h = jnp.sin(h) if kind == "sin" else jnp.cos(h)
        return {"out": h**power if flag else h, "count": x["n"] + 1}

    params, x = make()
    policy = offload.Policy(host=["up"])
    ours = offload.checkpoint(block, policy, static_argnums=(1,), static_argnames=("flag",))

    def run(block, kind, params, x):
        return block(params, kind, {"a": x, "n": jnp.int32(2)}, power=3, flag=True)["out"].sum()

    for kind in ("sin", "cos"):
        got, want = (
            jit(jax.grad(functools.partial(run, b, kind)))(params, x) for b in (ours, block)
        )
        assert_close(got, want)
    assert ours(params, "sin", {"a": x, "n": jnp.int32(2)}, power=3, flag=False)["count"] == 3


def test_vmap_outside_and_inside():
    params, x = make()
    xs = jnp.stack([x, 2 * x, 3 * x])
    ours, theirs = offload.checkpoint(layer, offload.Policy(host=["up"])), saved(layer, "up")
    got, want = (
        jit(jax.vmap(jax.grad(loss(block)), in_axes=(None, 0)))(params, xs)
        for block in (ours, theirs)
    )
    assert_close(got, want)
    got, want = (
        gradients(jax.vmap(block, in_axes=(None, 0)))(params, xs) for block in (ours, theirs)
    )
    assert_close(got, want)


def test_gradients_are_accumulated_over_micro_batches():
    params, x = make()
    xs = jnp.stack([x, 2 * x, 3 * x])

    def total(block, params, xs):
        def step(sums, x):
            return jax.tree.map(jnp.add, sums, jax.grad(loss(block))(params, x)), None

        return jax.lax.scan(step, jax.tree.map(jnp.zeros_like, params), xs)[0]

    ours, theirs = offload.checkpoint(layer, offload.Policy(host=["up"])), saved(layer, "up")
    got, want = (jit(functools.partial(total, b))(params, xs) for b in (ours, theirs))
    assert_same_bits(got, want)


def test_nested_scans():
    params, x = make()
    deep = jax.tree.map(lambda p: jnp.stack([p, p / 2]), params)

    def run(block, params, x):
        def outer(x, params):
            return jax.lax.scan(lambda x, p: (block(p, x), None), x, params)[0], None

        return (jax.lax.scan(outer, x, params)[0] ** 2).sum()

    ours, theirs = offload.checkpoint(layer, offload.Policy(host=["up"])), saved(layer, "up")
    got, want = (jit(jax.grad(functools.partial(run, b)))(deep, x) for b in (ours, theirs))
    assert_same_bits(got, want)


def test_inside_another_checkpoint():
    params, x = make()
    ours = offload.checkpoint(layer, offload.Policy(host=["up"]))
    got = jit(jax.grad(jax.checkpoint(loss(ours))))(params, x)
    assert_same_bits(got, jit(jax.grad(loss(saved(layer, "up"))))(params, x))


def test_each_device_of_a_shard_map_has_its_own_values():
    mesh = Mesh(np.array(jax.devices()), ("data",))
    params, x = make()
    xs = jnp.concatenate([x * (i + 1) for i in range(len(jax.devices()))])
    data, whole = PartitionSpec("data"), PartitionSpec()

    def step(block):
        def local(params, x):
            return jax.lax.psum(jax.grad(loss(block))(params, x), "data")

        run = jax.shard_map(local, mesh=mesh, in_specs=(whole, data), out_specs=whole)
        return jax.block_until_ready(jit(run)(params, xs))

    before = offload.stats()["stored"]
    got = step(offload.checkpoint(layer, offload.Policy(host=["up"])))
    assert_close(got, step(saved(layer, "up")))
    assert offload.stats()["stored"] - before == DEPTH * len(jax.devices())


@pytest.mark.parametrize("spec", [("data",), (None, "data"), ()], ids=str)
def test_on_explicit_axes_each_device_moves_its_part(spec):
    devices = jax.devices()[:2]
    mesh = jax.make_mesh(
        (len(devices),), ("data",), axis_types=(AxisType.Explicit,), devices=devices
    )
    weights, x = jnp.arange(192.0).reshape(3, 8, 8) / 200, jnp.arange(32.0).reshape(4, 8) / 32

    def block(w, x):
        up = offload.name(jnp.einsum("bi,io->bo", x, w, out_sharding=PartitionSpec(*spec)), "up")
        return jax.sharding.reshard(jnp.sin(up), jax.typeof(x).sharding.spec)

    def step(block):
        def total(w, x):
            return jax.lax.scan(lambda x, w: (block(w, x), None), x, w)[0].sum()

        run = jax.jit(jax.grad(total, (0, 1))).lower(weights, x).compile()
        return jax.block_until_ready(run(weights, x)), run.as_text().count("all-gather(")

    with jax.set_mesh(mesh):
        x = jax.device_put(x, PartitionSpec("data"))
        before = offload.stats()["stored"]
        got, gathers = step(offload.checkpoint(block, offload.Policy(host=["up"])))
        assert offload.stats()["stored"] - before == len(devices) * len(weights)
        want, gathers_at_least = step(saved(block, "up"))
    assert_same_bits(got, want)
    assert gathers <= gathers_at_least, "what moves is gathered first"


def test_random_keys_and_integers_pass_through():
    def block(key, x, shift):
        h = offload.name(jnp.sin(x + shift), "sin")
        return h * h * jax.random.bernoulli(key, 0.5, x.shape)

    key, x = jax.random.key(0), jnp.arange(8.0)
    ours = offload.checkpoint(block, offload.Policy(host=["sin"]))
    got, want = (
        jit(jax.grad(lambda x, b=b: (b(key, x, jnp.int32(3)) ** 2).sum()))(x) for b in (ours, block)
    )
    assert_close(got, want)


def test_empty_arrays():
    policy = offload.Policy(host=["square"])
    ours = offload.checkpoint(lambda x: offload.name(x * x, "square") * x, policy)
    assert jit(jax.grad(lambda x: ours(x).sum()))(jnp.zeros((0, 3))).shape == (0, 3)


def test_a_value_with_two_names_moves_once():
    def block(x):
        h = offload.name(offload.name(jnp.sin(x), "one"), "two")
        return h * h * x

    before = offload.stats()["stored"]
    ours = offload.checkpoint(block, offload.Policy(host=["one", "two"]))
    with pytest.warns(UserWarning, match="does not need 'one'"):
        jax.block_until_ready(jit(jax.grad(lambda x: ours(x).sum()))(jnp.ones(3)))
    assert offload.stats()["stored"] - before == 1


def test_without_a_gradient_nothing_is_stored():
    params, x = make()
    before = offload.stats()["stored"]
    ours = offload.checkpoint(layer, offload.Policy(host=["up"]))
    assert jit(loss(ours))(params, x) == jit(loss(layer))(params, x)
    assert offload.stats()["stored"] == before


def test_a_name_that_nothing_has():
    ours = offload.checkpoint(layer, offload.Policy(host=["upp"]))
    params, x = make()
    with pytest.warns(UserWarning, match=r"no value of the function is named 'upp'; its names are"):
        gradients(ours)(params, x)


def test_a_name_in_a_loop():
    def block(x):
        return jax.lax.scan(lambda x, _: (offload.name(jnp.sin(x), "deep"), None), x, length=3)[0]

    ours = offload.checkpoint(block, offload.Policy(host=["deep"]))
    with pytest.warns(UserWarning, match="'deep' names a value in a loop"):
        got = jit(jax.grad(lambda x: ours(x).sum()))(jnp.ones(3))
    assert_same_bits(got, jit(jax.grad(lambda x: block(x).sum()))(jnp.ones(3)))


def test_a_name_that_the_backward_pass_does_not_need():
    ours = offload.checkpoint(
        lambda p, x: offload.name(layer(p, x), "out"), offload.Policy(host=["up", "out"])
    )
    params, x = make()
    before = offload.stats()["stored"]
    with pytest.warns(UserWarning, match="the backward pass does not need 'out'"):
        gradients(ours)(params, x)
    assert offload.stats()["stored"] - before == DEPTH


def test_no_warning_where_all_is_well():
    params, x = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradients(offload.checkpoint(layer, offload.Policy(host=["up", "input"])))(params, x)


def test_what_is_no_policy():
    with pytest.raises(TypeError, match=r"policy must be an offload\.Policy, got function"):
        offload.checkpoint(layer, lambda *_: True)
