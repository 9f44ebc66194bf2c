"""The native passes: numbers, gradients of gradients, and JAX's transformations."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conv_cases import CANONICAL, LEFT_TO_XLA, NHWC, assert_close, make, weights_like
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxdirect
from jaxdirect import _ffi

pytestmark = pytest.mark.usefixtures("native")
ON_CPU = jax.default_backend() == "cpu"  # a GPU's table may leave some to XLA
SMALL = ("one dimension, causal", "groups", "transposed groups")


def pair(arguments, implementation="auto"):
    """Our convolution and JAX's."""
    return (
        functools.partial(
            jaxdirect.conv_general_dilated, **arguments, implementation=implementation
        ),
        functools.partial(jax.lax.conv_general_dilated, **arguments),
    )


def both(run, arguments, *arrays):
    """`run(conv, *arrays)` of our convolution and of JAX's, in one program."""
    ours, jaxs = pair(arguments)
    return jax.jit(lambda *arrays: (run(ours, *arrays), run(jaxs, *arrays)))(*arrays)


@pytest.fixture
def kernels_everywhere():
    """Operands and arguments that kernels of every platform take, all passes of them."""
    lhs, rhs, arguments = make(CANONICAL["depthwise"])
    why = jaxdirect.conv.explain(lhs, rhs, **arguments)
    if not _ffi.available(why.platform):
        pytest.skip(_ffi.missing(why.platform))
    assert why.forward.native, why
    assert why.lhs_gradient.native, why
    assert why.rhs_gradient.native, why
    return lhs, rhs, arguments


def value_and_gradients(conv, lhs, rhs):
    out, vjp = jax.vjp(conv, lhs, rhs)
    return out, vjp(weights_like(out))


@pytest.mark.parametrize("name", CANONICAL)
def test_values_and_gradients(native, name):
    lhs, rhs, arguments = make(CANONICAL[name])
    native.clear()
    got, want = both(value_and_gradients, arguments, lhs, rhs)
    if ON_CPU:
        assert {target.rsplit("_", 1)[1] for target in native} == {"fprop", "dgrad", "wgrad"}
    assert_close(got, want)


@pytest.mark.parametrize("name", LEFT_TO_XLA)
def test_the_rest_is_xlas(native, name):
    lhs, rhs, arguments = make(LEFT_TO_XLA[name])
    ours, jaxs = pair(arguments)
    native.clear()
    np.testing.assert_array_equal(ours(lhs, rhs), jaxs(lhs, rhs))
    assert native == []
    with pytest.raises(ValueError, match="implementation='native' does not take"):
        pair(arguments, "native")[0](lhs, rhs)


@st.composite
def convolutions(draw):
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    size = st.integers(1, 9)
    lhs = (draw(st.integers(1, 3)), draw(size), draw(size), groups * draw(st.integers(1, 5)))
    taps = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    rhs = (*taps, lhs[3] // groups, groups * draw(st.integers(1, 5)))
    step = st.tuples(st.integers(1, 3), st.integers(1, 3))
    pads = st.tuples(st.integers(-2, 4), st.integers(-2, 4))
    arguments = {
        "dimension_numbers": NHWC,
        # JAX refuses to cut off more than there is.
        "padding": tuple(
            draw(pads.filter(lambda ends, most=most: -sum(ends) <= most)) for most in lhs[1:3]
        ),
        "rhs_dilation": draw(step),
        "feature_group_count": groups,
        draw(st.sampled_from(["window_strides", "lhs_dilation"])): draw(step),
    }
    return lhs, rhs, arguments


@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(convolutions())
def test_drawn_convolutions(case):
    lhs, rhs, arguments = make(case)
    assert_close(*both(value_and_gradients, arguments, lhs, rhs))


def second_gradients(conv, lhs, rhs):
    def gradients(lhs, rhs):
        bars = jax.grad(lambda *operands: jnp.sin(conv(*operands)).sum(), (0, 1))(lhs, rhs)
        return sum(jnp.cos(bar).sum() for bar in bars)

    return jax.grad(gradients, (0, 1))(lhs, rhs)


@pytest.mark.parametrize("name", SMALL)
def test_gradients_of_gradients(name):
    lhs, rhs, arguments = make(CANONICAL[name])
    got, want = both(second_gradients, arguments, lhs / 8, rhs / 8)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axes", [(1, None), (None, 1), (0, 1)], ids=["lhs", "rhs", "both"])
@pytest.mark.parametrize("name", SMALL[1:])
def test_vmap(native, name, axes):
    lhs, rhs, arguments = make(CANONICAL[name])
    spread = jnp.arange(1.0, 4.0)
    lhs, rhs = (
        x if axis is None else jnp.stack([x * s for s in spread], axis)
        for x, axis in zip((lhs, rhs), axes, strict=True)
    )

    def mapped(conv, lhs, rhs):
        # Mapped and then differentiated, and the other way: then each pass is mapped by itself.
        outside = value_and_gradients(jax.vmap(conv, axes), lhs, rhs)
        return outside, jax.vmap(functools.partial(value_and_gradients, conv), axes)(lhs, rhs)

    native.clear()
    got, want = both(mapped, arguments, lhs, rhs)
    assert native or not ON_CPU
    assert_close(got, want)


def test_vmap_over_nothing_and_over_two_axes():
    lhs, rhs, arguments = make(CANONICAL["groups"])
    ours, jaxs = pair(arguments)
    empty = jnp.zeros((0, *lhs.shape))
    assert jax.vmap(ours, (0, None))(empty, rhs).shape == (
        0,
        *jax.eval_shape(jaxs, lhs, rhs).shape,
    )

    def mapped(conv, lhs, rhs):
        return jax.vmap(jax.vmap(conv, (None, 0)), (0, None))(lhs, rhs)

    lhs, rhs = jnp.stack([lhs, 2 * lhs]), jnp.stack([rhs, 3 * rhs, -rhs])
    assert_close(*both(mapped, arguments, lhs, rhs))


def test_scan_and_checkpoint():
    lhs, rhs, arguments = make(((2, 5, 6, 4), (3, 3, 4, 4), {"dimension_numbers": NHWC}))
    arguments["padding"] = "SAME"

    def loss(conv, lhs, rhs):
        @jax.checkpoint
        def layer(x, _):
            return jnp.tanh(conv(x, rhs / 16)), ()

        return jax.lax.scan(layer, lhs, length=3)[0].sum()

    run = jax.grad(loss, (1, 2))
    for got, want in zip(*both(run, arguments, lhs, rhs), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_conv_transpose_is_a_dgrad(native):
    lhs, rhs, _ = make(((2, 5, 6, 4), (3, 3, 4, 4), {}))
    want = jax.lax.conv_transpose(lhs, rhs, (2, 2), "SAME", precision="highest")
    native.clear()
    arguments = {"lhs_dilation": (2, 2), "dimension_numbers": NHWC, "precision": "highest"}
    got = jaxdirect.conv_general_dilated(lhs, rhs, (1, 1), ((2, 1), (2, 1)), **arguments)
    assert_close(got, want)
    assert set(native) == {"jaxdirect_conv_dgrad"} or not ON_CPU


@pytest.mark.parametrize(("argument", "asked"), [(0, "dgrad"), (1, "wgrad")])
def test_gradients_that_nobody_asks_for_are_not_computed(kernels_everywhere, argument, asked):
    lhs, rhs, arguments = kernels_everywhere
    ours, _ = pair(arguments)
    step = jax.jit(jax.grad(lambda *operands: ours(*operands).sum(), argument))
    # The sum's gradient needs neither the result nor the other gradient.
    text = step.lower(lhs, rhs).compile().as_text()
    ways = ("fprop", "dgrad", "wgrad")
    calls = {way: text.count(f'custom_call_target="jaxdirect_conv_{way}"') for way in ways}
    assert calls == {way: int(way == asked) for way in ways}
    assert " convolution(" not in text
    assert "__cudnn" not in text


@pytest.mark.parametrize(
    "derivative",
    [
        lambda f, x: jax.jvp(f, (x,), (x,)),
        lambda f, x: jax.jit(lambda x: jax.jvp(f, (x,), (x,)))(x),
        lambda f, x: jax.jacfwd(f)(x),
        lambda f, x: jax.linearize(f, x)[1](x),
        lambda f, x: jax.jvp(jax.grad(lambda x: f(x).sum()), (x,), (x,)),
    ],
    ids=["jvp", "jit", "jacfwd", "linearize", "hessian"],
)
def test_forward_mode_says_what_to_do(kernels_everywhere, derivative):
    lhs, rhs, arguments = kernels_everywhere
    ours, _ = pair(arguments)
    with pytest.raises(TypeError, match=r"no forward-mode derivative.*implementation='reference'"):
        derivative(lambda x: ours(x, rhs), lhs)


def test_the_same_bits_every_time():
    lhs, rhs, arguments = make(CANONICAL["dilated"])
    run = jax.jit(functools.partial(value_and_gradients, pair(arguments)[0]))
    first = run(lhs, rhs)
    for _ in range(3):
        again = run(lhs, rhs)
        jax.tree.map(np.testing.assert_array_equal, first, again)


def test_export():
    lhs, rhs, arguments = make(CANONICAL["valid"])
    ours, jaxs = pair(arguments)
    checks = jaxdirect.export_checks()
    exported = jax.export.export(jax.jit(ours), disabled_checks=checks)(lhs, rhs)
    again = jax.export.deserialize(exported.serialize())
    assert_close(again.call(lhs, rhs), jaxs(lhs, rhs))


def test_export_with_a_symbolic_batch():
    lhs, rhs, arguments = make(CANONICAL["valid"])
    ours, jaxs = pair(arguments)
    (batch,) = jax.export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((batch, *lhs.shape[1:]), lhs.dtype)
    exported = jax.export.export(jax.jit(ours))(shape, rhs)
    assert_close(exported.call(lhs, rhs), jaxs(lhs, rhs))


def test_without_jit():
    lhs, rhs, arguments = make(CANONICAL["groups"])
    ours, jaxs = pair(arguments)
    with jax.disable_jit():
        assert_close(ours(lhs, rhs), jaxs(lhs, rhs))
