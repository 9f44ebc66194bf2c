"""Several groups: every width of a group, against JAX's own convolution."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conv_cases import NHWC, assert_close, make, weights_like

import jaxdirect
from jaxdirect import _compat, _ffi

pytestmark = pytest.mark.usefixtures("native")
PASSES = {"fprop", "dgrad", "wgrad"}


def on_hopper():
    return jax.default_backend() == "gpu" and _ffi.available("cuda") and _compat.is_hopper()


def case(groups, depth, width, dtype="bfloat16", size=(9, 11), taps=(3, 3), **arguments):
    """Arrays and arguments: `groups` of `depth` input and `width` output channels."""
    arguments = {"padding": "SAME", "dimension_numbers": NHWC, "dtype": dtype} | arguments
    arguments["feature_group_count"] = groups
    return make(((2, *size, groups * depth), (*taps, depth, groups * width), arguments))


def value_and_gradients(conv, lhs, rhs):
    out, vjp = jax.vjp(conv, lhs, rhs)
    return out, vjp(weights_like(out))


def value_and_lhs_gradient(conv, lhs, rhs):
    out, vjp = jax.vjp(lambda lhs: conv(lhs, rhs), lhs)
    return out, vjp(weights_like(out))


def both(lhs, rhs, arguments, compute=value_and_gradients):
    convs = (
        functools.partial(conv, **arguments)
        for conv in (jaxdirect.conv_general_dilated, jax.lax.conv_general_dilated)
    )
    return [jax.jit(functools.partial(compute, conv))(lhs, rhs) for conv in convs]


def passes(native):
    return {target.rsplit("_", 1)[1] for target in native}


# On a GPU, pixels of whole 16 bytes have kernels: groups of up to 32 channels for all passes.
WIDTHS = (2, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("width", WIDTHS)
def test_groups_of_every_width(native, width, dtype):
    groups = 8 if width < 8 else 4 if width < 24 else 3 if width % 8 == 0 else 4
    lhs, rhs, arguments = case(groups, width, width, dtype)
    native.clear()
    assert_close(*both(lhs, rhs, arguments))
    if jax.default_backend() == "cpu" or (on_hopper() and width <= 32):
        assert passes(native) == PASSES


GEOMETRIES = {
    "stride 2": {"window_strides": (2, 2)},
    "stride 2 of one axis": {"window_strides": (1, 2)},
    "stride 2, odd ends": {"window_strides": (2, 2), "padding": ((0, 1), (1, 0))},
    "stride 2, one tap": {"window_strides": (2, 2), "taps": (1, 1), "padding": "VALID"},
    "stride 3": {"window_strides": (3, 3), "padding": "VALID"},
    "dilated": {"rhs_dilation": (2, 3), "size": (15, 17)},
    "dilated and strided": {"rhs_dilation": (2, 2), "window_strides": (2, 2), "size": (15, 17)},
    "negative padding": {"padding": ((-1, 2), (1, -2))},
    "wide padding": {"padding": ((5, 4), (6, 7))},
    "one tap": {"taps": (1, 1)},
    "many taps": {"taps": (5, 7), "size": (12, 19)},
    "one row": {"size": (1, 300), "taps": (1, 4), "padding": ((0, 0), (3, 0))},
    "transposed": {"lhs_dilation": (2, 2), "padding": ((2, 1), (2, 1))},
    "one pixel": {"size": (1, 1)},
}


@pytest.mark.parametrize("widths", [(4, 4), (8, 8), (8, 24), (16, 4)], ids=str)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_geometries(name, widths):
    geometry = GEOMETRIES[name]
    if "lhs_dilation" not in geometry:
        geometry = {"window_strides": (1, 1)} | geometry
    lhs, rhs, arguments = case(4, *widths, **geometry)
    if name == "transposed" and jax.default_backend() == "gpu":
        # XLA cannot compile the filter's gradient there: "yDimA[N_DIM] != xDimA[N_DIM]".
        assert_close(*both(lhs, rhs, arguments, compute=value_and_lhs_gradient))
        return
    assert_close(*both(lhs, rhs, arguments))


def test_more_groups_than_a_block_holds():
    assert_close(*both(*case(10, 16, 16)))


# Widths of whole 16 bytes that are no multiple of 8 channels as well.
@pytest.mark.parametrize(("groups", "width"), [(8, 8), (3, 4), (2, 20), (9, 4)])
def test_float32_as_tf32(groups, width):
    lhs, rhs, arguments = case(groups, width, width, "float32", precision="default")
    got, want = both(lhs, rhs, arguments)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=3e-3 * float(jnp.abs(other).max()))


def test_infinities_stay_in_groups_of_whole_units():
    lhs, rhs, arguments = case(4, 8, 8, window_strides=(1, 1))
    lhs = lhs.at[0, 3, 4, 9].set(jnp.inf)  # of the second group
    out = jaxdirect.conv_general_dilated(lhs, rhs, **arguments)
    finite = np.isfinite(np.asarray(out.astype(jnp.float32)))
    assert finite[..., :8].all()
    assert finite[..., 16:].all()
    assert not finite[0, 3, 4, 8:16].all()


def test_the_same_bits_every_time():
    lhs, rhs, arguments = case(8, 4, 4, size=(40, 40), window_strides=(1, 1))
    conv = functools.partial(jaxdirect.conv_general_dilated, **arguments)
    run = jax.jit(functools.partial(value_and_gradients, conv))
    first = run(lhs, rhs)
    for _ in range(3):
        jax.tree.map(np.testing.assert_array_equal, first, run(lhs, rhs))


@pytest.mark.parametrize("groups", [3, 5, 16, 0, -1])
def test_wrong_group_counts_are_refused_as_by_jax(groups):
    lhs, rhs = jnp.zeros((1, 5, 5, 8)), jnp.zeros((3, 3, 2, 8))
    arguments = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": NHWC}
    arguments["feature_group_count"] = groups
    with pytest.raises(Exception) as expected:  # noqa: PT011
        jax.lax.conv_general_dilated(lhs, rhs, **arguments)
    with pytest.raises(type(expected.value)) as raised:
        jaxdirect.conv_general_dilated(lhs, rhs, **arguments)
    assert str(raised.value).splitlines()[:1] == str(expected.value).splitlines()[:1]
