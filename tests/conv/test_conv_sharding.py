"""Convolutions over several devices: what is split stays split, and sums run over all of it."""

from __future__ import annotations

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conv_cases import assert_close, make
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxdirect
from jaxdirect import _partition

pytestmark = pytest.mark.usefixtures("native")

LHS, RHS, ARGUMENTS = make(((4, 4, 6, 5), (6, 4, 3, 3), {"padding": "SAME"}))
BATCH, WHOLE = PartitionSpec("x"), PartitionSpec()


def conv(lhs, rhs):
    return jaxdirect.conv_general_dilated(lhs, rhs, **ARGUMENTS)


def loss(conv, lhs, rhs):
    return jnp.sin(conv(lhs, rhs) / 16).sum()


def gradients(lhs, rhs):
    return jax.grad(loss, (1, 2))(conv, lhs, rhs)


def want():
    def lax(lhs, rhs):
        return jax.lax.conv_general_dilated(lhs, rhs, **ARGUMENTS)

    return lax(LHS, RHS), jax.grad(loss, (1, 2))(lax, LHS, RHS)


def make_mesh(axis_type, platform=None):
    devices = jax.devices(platform)
    if len(devices) < 2:
        devices = jax.devices("cpu")
    return jax.make_mesh((2,), ("x",), axis_types=(axis_type,), devices=devices[:2])


@pytest.fixture(params=[AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def mesh(request):
    return make_mesh(request.param)


def place(mesh, lhs=BATCH, rhs=WHOLE):
    return (jax.device_put(x, NamedSharding(mesh, spec)) for x, spec in ((LHS, lhs), (RHS, rhs)))


def test_data_parallel_training_gathers_nothing(native, mesh):
    lhs, rhs = place(mesh)
    native.clear()
    forward, backward = jax.jit(conv), jax.jit(gradients)
    for function in (forward, backward):
        assert "all-gather" not in function.lower(lhs, rhs).compile().as_text()
    assert native or jax.default_backend() != "cpu"
    y, (lhs_grad, rhs_grad) = want()
    got = forward(lhs, rhs)
    assert got.sharding.spec[0] == "x"
    assert_close(got, y)
    for one, other in zip(backward(lhs, rhs), (lhs_grad, rhs_grad), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("lhs", "rhs"),
    [
        (BATCH, BATCH),
        (BATCH, PartitionSpec(None, "x")),
        (WHOLE, BATCH),
        (PartitionSpec(None, "x"), PartitionSpec(None, "x")),
        (PartitionSpec(None, None, "x"), WHOLE),
    ],
    ids=str,
)
def test_any_split_is_right(lhs, rhs):
    arrays = tuple(place(make_mesh(AxisType.Auto), lhs, rhs))
    y, bars = want()
    assert_close(jax.jit(conv)(*arrays), y)
    for one, other in zip(jax.jit(gradients)(*arrays), bars, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_what_explicit_axes_split_beside_the_batch_is_xlas():
    mesh = make_mesh(AxisType.Explicit)
    lhs, rhs = place(mesh, PartitionSpec(None, None, "x"), WHOLE)
    why = jaxdirect.conv.explain(lhs, rhs, **ARGUMENTS).forward.reason
    assert "other than lhs's batch is split over explicit mesh axes" in why


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map(mesh, check_vma):
    lhs, rhs = place(mesh)
    split = jax.shard_map(
        conv, mesh=mesh, in_specs=(BATCH, WHOLE), out_specs=BATCH, check_vma=check_vma
    )
    assert_close(jax.jit(split)(lhs, rhs), want()[0])


def test_gradient_of_a_shared_filter_in_a_shard_map_is_summed(mesh):
    lhs, rhs = place(mesh)
    split = jax.shard_map(gradients, mesh=mesh, in_specs=(BATCH, WHOLE), out_specs=(BATCH, WHOLE))
    for one, other in zip(jax.jit(split)(lhs, rhs), want()[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_grouped_convolutions_stay_split():
    # On the CPU on every machine: a GPU has no kernel for these groups, and XLA gathers for them.
    cpu = jax.devices("cpu")[0]
    lhs, rhs = place(make_mesh(AxisType.Auto, "cpu"))

    def grouped(lhs, rhs):
        return jaxdirect.conv_general_dilated(lhs, rhs[:, :2], **ARGUMENTS, feature_group_count=2)

    step = jax.jit(jax.grad(loss, (1, 2)), static_argnums=0)
    with jax.default_device(cpu):
        assert "all-gather" not in step.lower(grouped, lhs, rhs).compile().as_text()
        want = step(grouped, *jax.device_put((LHS, RHS), cpu))
        for one, other in zip(step(grouped, lhs, rhs), want, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_vmap_over_filters():
    lhs, rhs = place(make_mesh(AxisType.Auto))
    filters = jnp.stack([rhs, 2 * rhs])
    got = jax.jit(jax.vmap(conv, (None, 0)))(lhs, filters)
    y = want()[0]
    assert_close(got, jnp.stack([y, 2 * y]))


def array(shape, *spec):
    sharding = types.SimpleNamespace(spec=PartitionSpec(*spec), memory_kind="device")
    return types.SimpleNamespace(shape=shape, sharding=sharding)


def test_conflicting_and_unequal_splits_go():
    mesh = make_mesh(AxisType.Auto)

    def axes(first, second):
        rule = "n c, c k -> n k"
        out = array((first.shape[0], second.shape[1]))
        split, outs, operands = _partition.consistent(rule, ("c",), mesh, (first, second), (out,))
        assert [x.spec for x in operands] == [
            PartitionSpec(split.get("n"), None),
            PartitionSpec(None, split.get("k")),
        ]
        assert outs[0].spec == PartitionSpec(split.get("n"), split.get("k"))
        return split

    assert axes(array((4, 2), "x", None), array((2, 4), None, "x")) == {"n": ("x",)}
    assert axes(array((3, 2), "x", None), array((2, 4), None, "x")) == {"k": ("x",)}
    assert axes(array((4, 2), None, "x"), array((2, 4), "x", None)) == {}
