"""How far the passes are from exact ones, at either precision; and what is no usual number."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conv_cases import NHWC
from conv_oracle import Window, errors, passes
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxdirect

pytestmark = pytest.mark.usefixtures("native")
ON_GPU = jax.default_backend() == "gpu"
# On a GPU the default may round as TF32; ours keeps 16 bits of every value.
BOUNDS = {"default": 1e-4 if ON_GPU else 1e-6, "highest": 1e-6}
PASSES = ("fprop", "dgrad", "wgrad")
SMALLEST = float(jnp.finfo("float32").tiny)


def draw(rng, values, shape):
    if values == "positive":
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    drawn = rng.standard_normal(shape)
    if values == "spread":
        drawn *= 2.0 ** rng.integers(-20, 21, shape)
    if values == "extreme":
        drawn *= 10.0 ** rng.uniform(-20, 20, shape)
    return drawn.astype(np.float32)


def run(x, filters, y_bar, padding="VALID", **arguments):
    """Our three passes, in one program: y, x_bar, filters_bar."""

    def every(x, filters, y_bar):
        def conv(x, filters):
            arguments.setdefault("window_strides", (1, 1))
            return jaxdirect.conv_general_dilated(
                x, filters, padding=padding, dimension_numbers=NHWC, **arguments
            )

        y, pull = jax.vjp(conv, x, filters)
        return y, *pull(y_bar)

    return jax.jit(every)(*map(jnp.asarray, (x, filters, y_bar)))


def ours(x, filters, padding="VALID", **arguments):
    """Which of the passes are ours: the rest is XLA's affair."""
    arguments.setdefault("window_strides", (1, 1))
    why = jaxdirect.conv.explain(x, filters, padding=padding, dimension_numbers=NHWC, **arguments)
    return why.forward.native, why.lhs_gradient.native, why.rhs_gradient.native


@pytest.mark.parametrize("values", ["normal", "positive", "spread"])
@pytest.mark.parametrize("precision", BOUNDS)
def test_gradients_of_filters(precision, values):
    rng = np.random.default_rng(0)
    x = draw(rng, values, (4, 34, 36, 36))
    y_bar = draw(rng, values, (4, 32, 34, 20))
    filters = np.zeros((3, 3, 36, 20), np.float32)
    exact = passes(x, filters, y_bar, Window())[2]
    got = run(x, filters, y_bar, precision=precision)[2]
    error = np.linalg.norm(np.asarray(got, np.float64) - exact) / np.linalg.norm(exact)
    assert error < BOUNDS[precision]
    np.testing.assert_array_equal(got, run(x, filters, y_bar, precision=precision)[2])


@pytest.mark.parametrize("values", ["normal", "positive", "extreme x", "extreme filters and y"])
@pytest.mark.parametrize(
    ("x_shape", "filter_shape"),
    [
        ((2, 7, 7, 512), (3, 3, 512, 64)),
        ((2, 20, 24, 64), (3, 3, 64, 32)),
        ((2, 24, 24, 3), (5, 5, 3, 32)),
    ],
    ids=["4608 products", "channels by eight", "stem"],
)
def test_highest_is_float32_accuracy(values, x_shape, filter_shape):
    """Sums of positive values show whether an accumulator truncates; extremes, lost exponents."""
    rng = np.random.default_rng(1)
    y_shape = (x_shape[0], *(x_shape[i] - filter_shape[i - 1] + 1 for i in (1, 2)), filter_shape[3])
    kinds = {
        "extreme x": ("extreme", "normal", "normal"),
        "extreme filters and y": ("normal", "extreme", "extreme"),
    }.get(values, (values,) * 3)
    arrays = [draw(rng, k, s) for k, s in zip(kinds, (x_shape, filter_shape, y_shape), strict=True)]
    if values == "extreme filters and y":  # their product would overflow
        arrays[1] = np.where(np.abs(arrays[1]) > 1e15, 1.0, arrays[1]).astype(np.float32)
        arrays[2] = np.where(np.abs(arrays[2]) > 1e15, 1.0, arrays[2]).astype(np.float32)
    want = passes(*arrays, Window())
    sizes = passes(*map(np.abs, arrays), Window())
    found = errors(run(*arrays, precision="highest"), want, sizes)
    which = ours(*arrays[:2], precision="highest")
    assert max(e for e, is_ours in zip(found, which, strict=True) if is_ours) < 2e-6


@st.composite
def convolutions(draw):
    groups = draw(st.sampled_from([1, 1, 1, 2, 8]))
    each = st.sampled_from([1, 3, 8, 16, 24, 64])
    size = st.integers(1, 14)
    x = (draw(st.integers(0, 3)), draw(size), draw(size), groups * draw(each | st.just(0)))
    filters = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    filters += (x[3] // groups, groups * draw(each | st.just(0)))
    steps = st.tuples(st.integers(1, 4), st.integers(1, 4))
    strides, dilation = draw(steps), draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
    low, high = (draw(st.tuples(st.integers(0, 3), st.integers(0, 3))) for _ in range(2))
    dtype = draw(st.sampled_from(["float32", "float32", "bfloat16", "float16"]))
    return x, filters, strides, dilation, (low, high), groups, dtype


@settings(max_examples=12 if ON_GPU else 30, deadline=None, derandomize=True, database=None)
@given(convolutions())
def test_drawn_convolutions_are_close_to_float64(case):
    x_shape, filter_shape, strides, dilation, (low, high), groups, dtype = case
    outputs = [
        max(
            0,
            (x_shape[i + 1] + low[i] + high[i] - (filter_shape[i] - 1) * dilation[i] - 1)
            // strides[i]
            + 1,
        )
        for i in (0, 1)
    ]
    y_shape = (x_shape[0], *outputs, filter_shape[3])
    rng = np.random.default_rng(2)
    arrays = [
        rng.standard_normal(shape).astype(jnp.dtype(dtype))
        for shape in (x_shape, filter_shape, y_shape)
    ]
    arguments = {
        "padding": tuple(zip(low, high, strict=True)),
        "window_strides": strides,
        "rhs_dilation": dilation,
        "feature_group_count": groups,
        "precision": "highest" if dtype == "float32" else None,
    }
    got, which = run(*arrays, **arguments), ours(*arrays[:2], **arguments)
    window = Window(strides, low, dilation, groups)
    want, sizes = passes(*arrays, window), passes(*map(np.abs, arrays), window)
    step = 0 if dtype == "float32" else float(jnp.finfo(dtype).eps)
    for one, exact, size, is_ours in zip(got, want, sizes, which, strict=True):
        bound = 2e-6 if is_ours else 1e-3  # cuDNN has Winograd's and Fourier's transforms
        assert (one.shape, one.dtype.name) == (exact.shape, dtype)
        error = np.abs(np.asarray(one).astype(np.float64) - exact)
        assert (error <= step * np.abs(exact) + bound * size + SMALLEST).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("x_shape", "filter_shape", "groups"),
    [
        ((2, 9, 12, 64), (3, 3, 64, 32), 1),
        ((2, 12, 12, 3), (3, 3, 3, 32), 1),
        ((2, 9, 12, 16), (3, 3, 16, 4), 1),
        ((2, 9, 9, 32), (3, 3, 1, 32), 32),
    ],
    ids=["channels by eight", "stem", "few results", "depthwise"],
)
def test_infinities_and_nan_reach_what_they_belong_to(x_shape, filter_shape, groups, dtype):
    """And nothing beside: no value is multiplied by a zero of the kernel's own padding.

    But in the filter's gradient on a GPU.
    """
    rng = np.random.default_rng(3)
    y_shape = (x_shape[0], x_shape[1] - 2, x_shape[2] - 2, filter_shape[3])
    shapes = (x_shape, filter_shape, y_shape)
    x, filters, y_bar = (rng.standard_normal(s).astype(jnp.dtype(dtype)) for s in shapes)
    x[0, 4, 5, 1], x[0, 0, 0, 0], x[1, 8, 7, 2] = np.inf, -np.inf, np.nan
    y_bar[0, 2, 3, 1], y_bar[1, 6, 6, 2] = -np.inf, np.nan
    with np.errstate(invalid="ignore"):
        want = passes(x, filters, y_bar, Window(groups=groups))
    precision = "highest" if dtype == "float32" else None
    got = run(x, filters, y_bar, feature_group_count=groups, precision=precision)
    for which, one, exact in zip(PASSES, got, want, strict=True):
        one, infinite = np.asarray(one).astype(np.float64), np.isinf(exact)
        if which == "wgrad" and ON_GPU and groups == 1:  # tiles' rests are zeros of y_bar
            assert not np.isfinite(one[~np.isfinite(exact)]).any()
            continue
        np.testing.assert_array_equal(np.isfinite(one), np.isfinite(exact), which)
        np.testing.assert_array_equal(one[infinite], exact[infinite], which)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_denormals_are_kept_or_taken_for_zero(dtype):
    rng = np.random.default_rng(4)
    shapes = (2, 9, 12, 64), (3, 3, 64, 32), (2, 7, 10, 32)
    x, filters, y_bar = (rng.standard_normal(shape) for shape in shapes)
    arrays = [a.astype(jnp.dtype(dtype)) for a in (x * SMALLEST / 4, filters, y_bar * SMALLEST / 4)]
    got = run(*arrays, precision="highest" if dtype == "float32" else None)
    want = passes(*arrays, Window())
    # Each product may be off by a denormal operand, and the result by one more.
    ones = [np.full(a.shape, SMALLEST) if i != 1 else np.abs(a) for i, a in enumerate(arrays)]
    for one, exact, room in zip(got, want, passes(*ones, Window()), strict=True):
        error = np.abs(np.asarray(one).astype(np.float64) - exact)
        assert (error <= room + SMALLEST).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("x_shape", "filter_shape", "groups"),
    [
        ((6, 34, 34, 64), (3, 3, 64, 64), 1),
        ((6, 60, 60, 3), (7, 7, 3, 64), 1),
        ((6, 34, 34, 64), (3, 3, 1, 64), 64),
    ],
    ids=["channels by eight", "stem", "depthwise"],
)
def test_sums_of_many_blocks_have_the_same_bits(x_shape, filter_shape, groups, dtype):
    rng = np.random.default_rng(5)
    y_shape = (x_shape[0], *(x_shape[i] - filter_shape[i - 1] + 1 for i in (1, 2)), filter_shape[3])
    shapes = (x_shape, filter_shape, y_shape)
    arrays = [rng.standard_normal(s).astype(jnp.dtype(dtype)) for s in shapes]
    which = ours(*arrays[:2], feature_group_count=groups)
    assert which[0]
    assert which[2]
    first = run(*arrays, feature_group_count=groups)
    for _ in range(3):
        again = run(*arrays, feature_group_count=groups)
        for is_ours, one, other in zip(which, first, again, strict=True):
            if is_ours:  # cuDNN's order changes from call to call
                np.testing.assert_array_equal(one, other)
