"""The explicit form of Im2win: numbers, gradients, transformations, bytes and refusals."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conv_cases import CANONICAL, LEFT_TO_XLA, NHWC, assert_close, make, weights_like
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

import jaxdirect
from jaxdirect import _ffi
from jaxdirect.conv import _explicit, _ops, rules
from jaxdirect.conv.geometry import Geometry

COVERED = (
    *("valid", "default layout", "odd layout", "stride above kernel", "negative padding"),
    "one dimension, strided",
)
REFUSED = {
    "dilated": "takes no rhs_dilation",
    "groups": "takes one group, got 3",
    "transposed": "takes no lhs_dilation",
    "bfloat16": "takes float32, got bfloat16",
    "three dimensions": "it has 3 spatial dimensions",
    "no images": "an array is empty",
}


def pair(arguments):
    """This form, and JAX's convolution."""
    ours = functools.partial(
        jaxdirect.conv_general_dilated, **arguments, implementation="im2win_explicit"
    )
    return ours, functools.partial(jax.lax.conv_general_dilated, **arguments)


def both(run, arguments, *arrays):
    ours, jaxs = pair(arguments)
    return jax.jit(lambda *arrays: (run(ours, *arrays), run(jaxs, *arrays)))(*arrays)


def value_and_gradients(conv, lhs, rhs):
    out, vjp = jax.vjp(conv, lhs, rhs)
    return out, vjp(weights_like(out))


@pytest.mark.parametrize("name", COVERED)
def test_values_and_gradients(monkeypatch, name):
    calls = []
    real = _ffi.native_call
    monkeypatch.setattr(
        _ffi, "native_call", lambda target, *a, **k: calls.append(target) or real(target, *a, **k)
    )
    jax.clear_caches()
    lhs, rhs, arguments = make(CANONICAL[name])
    assert_close(*both(value_and_gradients, arguments, lhs, rhs))
    assert "jaxdirect_conv_im2win_explicit" in calls
    assert "jaxdirect_conv_fprop" not in calls


@st.composite
def convolutions(draw):
    lhs = tuple(draw(st.integers(low, high)) for low, high in ((1, 3), (4, 12), (4, 30), (1, 12)))
    rhs = (draw(st.integers(1, 5)), draw(st.integers(1, 5)), lhs[3], draw(st.integers(1, 40)))
    pads = st.tuples(st.integers(-1, 4), st.integers(-1, 4))
    steps = st.tuples(st.integers(1, 4), st.integers(1, 4))
    arguments = {
        "dimension_numbers": NHWC,
        "padding": (draw(pads), draw(pads)),
        "window_strides": draw(steps),
    }
    padded = [size + sum(pad) for size, pad in zip(lhs[1:3], arguments["padding"], strict=True)]
    assume(padded[0] >= rhs[0] and padded[1] >= rhs[1])
    return lhs, rhs, arguments


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(convolutions())
def test_drawn_convolutions(case):
    lhs, rhs, arguments = make(case)
    assert_close(*both(lambda conv, *arrays: conv(*arrays), arguments, lhs, rhs))


def test_tiles_with_tails():
    options = {"dimension_numbers": NHWC, "window_strides": (1, 2)}
    lhs, rhs, arguments = make(((2, 9, 30, 12), (3, 3, 12, 132), options))
    assert_close(*both(lambda conv, *arrays: conv(*arrays), arguments, lhs, rhs))


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name):
    lhs, rhs, arguments = make({**CANONICAL, **LEFT_TO_XLA}[name])
    asked = r"implementation='im2win_explicit' does not take this convolution: .*"
    with pytest.raises(ValueError, match=asked + REFUSED[name] + ".*; use implementation='auto'"):
        pair(arguments)[0](lhs, rhs)
    why = jaxdirect.conv.explain(lhs, rhs, **arguments, implementation="im2win_explicit")
    assert not why.forward.native
    assert REFUSED[name] in why.forward.reason


def test_refused_without_native_code(monkeypatch):
    lhs, rhs, arguments = make(CANONICAL["valid"])
    monkeypatch.setattr(_ffi, "module", lambda platform: ModuleNotFoundError(platform))
    with pytest.raises(RuntimeError, match=r"implementation='im2win_explicit': .*install"):
        pair(arguments)[0](lhs, rhs)


def test_split_presets_are_not_its():
    lhs, rhs, arguments = make(CANONICAL["valid"])
    arguments["precision"] = "BF16_BF16_F32_X6"
    with pytest.raises(ValueError, match="by no kernel for all passes"):
        pair(arguments)[0](lhs, rhs)


def test_explained_with_bytes():
    shapes = [jax.ShapeDtypeStruct(s, "float32") for s in ((128, 227, 227, 3), (11, 11, 3, 96))]
    arguments = {"window_strides": (4, 4), "padding": "VALID", "dimension_numbers": NHWC}
    why = jaxdirect.conv.explain(*shapes, **arguments, implementation="im2win_explicit")
    assert why.forward.kernel == "im2win_explicit"
    assert why.forward.reason.startswith("windows in order in memory, 211.88 MB (im2col: 562.21 MB")
    assert why.forward.workspace_bytes > 211.9e6
    usual = jaxdirect.conv.explain(*shapes, **arguments)
    assert why.lhs_gradient == usual.lhs_gradient
    with pytest.raises(ValueError, match="must be one of auto, native, reference, im2win_explicit"):
        jaxdirect.conv.explain(*shapes, **arguments, implementation="im2win")


@pytest.mark.parametrize("platform", list(filter(_ffi.available, ("cpu", "cuda"))))
@pytest.mark.parametrize(
    ("taps", "stride", "columns"),
    [(3, 1, 32), (5, 2, 64), (4, 3, 93), (1, 1, 30), (2, 4, 60)],
    ids=["overlapping", "strided", "filled up", "pixels", "apart"],
)
def test_bytes_of_the_windows(platform, taps, stride, columns):
    width = 29 * stride + taps
    y = (2, 6, 30, 9)
    geometry = Geometry.of((2, 8, width, 5), (3, taps, 5, 9), y, stride_w=stride)
    want = 4 * 2 * 6 * columns * 3 * 5
    # A multiple of 256, so that what follows is aligned.
    assert _explicit.window_bytes(platform, geometry) == -(-want // 256) * 256
    assert _explicit.im2col_bytes(geometry) == 4 * 2 * 6 * 30 * 3 * taps * 5
    plan = rules.native_plan(platform, _explicit.NAME, geometry, np.dtype("float32"), 1)
    assert plan[1] == _explicit.window_bytes(platform, geometry) + 4 * 3 * taps * 5 * 9


@pytest.mark.parametrize("axes", [(1, None), (None, 1)], ids=["lhs", "rhs"])
def test_vmap(axes):
    lhs, rhs, arguments = make(CANONICAL["valid"])
    lhs, rhs = (
        x if axis is None else jnp.stack([x, 2 * x, -x], axis)
        for x, axis in zip((lhs, rhs), axes, strict=True)
    )

    def mapped(conv, lhs, rhs):
        return jax.vmap(functools.partial(value_and_gradients, conv), axes)(lhs, rhs)

    assert_close(*both(mapped, arguments, lhs, rhs))


def test_vmap_over_both_is_refused():
    lhs, rhs, arguments = make(CANONICAL["valid"])
    with pytest.raises(ValueError, match=r"takes one group, and vmap over lhs and rhs .*lax\.map"):
        jax.vmap(pair(arguments)[0])(lhs[None], rhs[None])


def test_split_over_devices():
    lhs, rhs, arguments = make(CANONICAL["valid"])
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("images",))
    split = jax.device_put(lhs, NamedSharding(mesh, PartitionSpec("images")))
    ours, jaxs = pair(arguments)
    assert_close(jax.jit(ours)(split, rhs), jaxs(lhs, rhs))


def test_gradients_of_gradients():
    lhs, rhs, arguments = make(CANONICAL["valid"])

    def twice(conv, lhs, rhs):
        def gradient(lhs, rhs):
            return jnp.cos(jax.grad(lambda x: jnp.sin(conv(x, rhs)).sum())(lhs)).sum()

        return jax.grad(gradient, (0, 1))(lhs, rhs)

    for got, want in zip(*both(twice, arguments, lhs / 8, rhs / 8), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_forward_mode_says_what_to_do():
    lhs, rhs, arguments = make(CANONICAL["valid"])
    ours, _ = pair(arguments)
    with pytest.raises(TypeError, match="no forward-mode derivative"):
        jax.jvp(lambda x: ours(x, rhs), (lhs,), (lhs,))


def test_the_same_bits_every_time():
    lhs, rhs, arguments = make(CANONICAL["default layout"])
    run = jax.jit(pair(arguments)[0])
    np.testing.assert_array_equal(run(lhs, rhs), run(lhs, rhs))


def test_no_worse_than_sums_in_order():
    """All-positive sums of 4608 products: the worst case of an accumulator that truncates."""
    rng = np.random.default_rng(0)
    lhs = rng.random((1, 3, 5, 512)).astype(np.float32)
    rhs = rng.random((3, 3, 512, 8)).astype(np.float32)
    arguments = {"window_strides": (1, 1), "padding": "VALID", "dimension_numbers": NHWC}
    got = np.asarray(pair(arguments)[0](lhs, rhs), np.float64)
    windows = np.stack([lhs[:, :, q : q + 3].astype(np.float64) for q in range(3)])
    want = np.einsum("qnuvc,uvck->nqk", windows, rhs.astype(np.float64))[:, None]
    assert np.abs(got / want - 1).max() < 4608 * 2.0**-24


def run_variant(variant, lhs, rhs, geometry):
    options = _ops.Options(tuple(geometry.window.items()), 1, False)
    result = geometry.out_height, geometry.out_width
    return jax.jit(_explicit.fprop(variant), static_argnums=(0, 1))(options, result, lhs, rhs)


VARIED = {
    "stem": ((2, 33, 33, 3), (11, 11, 3, 96), 4),
    "odd": ((3, 11, 13, 7), (3, 4, 7, 131), 1),
    "aligned": ((2, 9, 30, 12), (3, 3, 12, 132), 2),
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", VARIED)
@pytest.mark.parametrize("variant", [v for v in _explicit.VARIANTS if v != "no product"])
def test_variants_on_a_gpu(name, variant):
    x_shape, filter_shape, stride = VARIED[name]
    lhs, rhs, _ = make((x_shape, filter_shape, {}))
    want = jax.lax.conv_general_dilated(
        lhs, rhs, (stride, stride), "VALID", dimension_numbers=NHWC, precision="highest"
    )
    geometry = Geometry.of(x_shape, filter_shape, want.shape, stride_h=stride, stride_w=stride)
    assert_close(run_variant(variant, lhs, rhs, geometry), want)


def test_a_cpu_has_no_variants():
    with jax.default_device(jax.devices("cpu")[0]):
        lhs, rhs, _ = make(CANONICAL["valid"])
        geometry = Geometry.of(lhs.shape, rhs.shape, (2, 5, 7, 5))
        with pytest.raises(Exception, match="has its variants on a GPU alone"):
            jax.block_until_ready(run_variant("base", lhs, rhs, geometry))
