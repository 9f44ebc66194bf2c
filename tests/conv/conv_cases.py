"""Convolutions that the tests share, and arrays for them."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

NHWC = ("NHWC", "HWIO", "NHWC")

# What a kernel may take: name to (lhs shape, rhs shape, arguments).
CANONICAL = {
    "valid": ((2, 7, 9, 3), (3, 3, 3, 5), {"dimension_numbers": NHWC, "padding": "VALID"}),
    "default layout": ((2, 3, 7, 9), (5, 3, 3, 2), {"padding": "SAME"}),
    "odd layout": (
        (7, 3, 2, 9),
        (3, 2, 5, 3),
        {"dimension_numbers": ("WCNH", "IHOW", "CHWN"), "padding": "SAME_LOWER"},
    ),
    "stride above kernel": (
        (1, 11, 10, 4),
        (2, 1, 4, 3),
        {"dimension_numbers": NHWC, "window_strides": (4, 3), "padding": ((1, 0), (0, 2))},
    ),
    "negative padding": (
        (2, 9, 8, 4),
        (3, 2, 4, 6),
        {"dimension_numbers": NHWC, "padding": ((-1, 2), (1, -2))},
    ),
    "dilated": (
        (2, 9, 12, 3),
        (3, 3, 3, 4),
        {"dimension_numbers": NHWC, "rhs_dilation": (2, 3), "padding": "SAME"},
    ),
    "groups": (
        (2, 8, 7, 6),
        (3, 3, 2, 9),
        {"dimension_numbers": NHWC, "feature_group_count": 3, "window_strides": (2, 1)},
    ),
    "depthwise": (
        (2, 6, 6, 5),
        (3, 3, 1, 5),
        {"dimension_numbers": NHWC, "feature_group_count": 5, "padding": "SAME"},
    ),
    "one dimension, causal": (
        (2, 9, 4),
        (3, 4, 6),
        {"dimension_numbers": ("NWC", "WIO", "NWC"), "padding": ((4, 0),), "rhs_dilation": (2,)},
    ),
    "one dimension, strided": ((2, 4, 9), (6, 4, 3), {"window_strides": (2,), "padding": "SAME"}),
    "transposed": (
        (2, 4, 5, 3),
        (3, 4, 3, 6),
        {"dimension_numbers": NHWC, "lhs_dilation": (2, 3), "padding": ((2, 3), (1, 2))},
    ),
    "transposed groups": (
        (2, 4, 5, 4),
        (3, 2, 2, 6),
        {
            "dimension_numbers": NHWC,
            "lhs_dilation": (2, 1),
            "rhs_dilation": (2, 1),
            "feature_group_count": 2,
            "padding": ((-1, 4), (0, 0)),
        },
    ),
    "one dimension, transposed": (
        (2, 4, 6),
        (3, 4, 4),
        {"lhs_dilation": (3,), "padding": ((2, 1),)},
    ),
    "channels by four": (
        (3, 9, 11, 12),
        (3, 2, 12, 68),
        {"dimension_numbers": NHWC, "window_strides": (1, 2), "padding": "SAME"},
    ),
    "bfloat16": (
        (2, 8, 8, 4),
        (3, 3, 4, 8),
        {"dimension_numbers": NHWC, "padding": "SAME", "dtype": "bfloat16"},
    ),
    "float16": ((2, 4, 8, 8), (8, 4, 3, 3), {"padding": "SAME", "dtype": "float16"}),
}

# What is XLA's in every build.
LEFT_TO_XLA = {
    "no spatial dimension": ((2, 3), (4, 3), {"window_strides": ()}),
    "three dimensions": ((1, 2, 4, 5, 6), (3, 2, 2, 3, 1), {"padding": "SAME"}),
    "both strided": (
        (1, 2, 5, 5),
        (2, 2, 3, 3),
        {"window_strides": (2, 2), "lhs_dilation": (2, 2), "padding": ((0, 0), (0, 0))},
    ),
    "batch groups": ((4, 2, 5, 5), (6, 2, 3, 3), {"batch_group_count": 2}),
    "complex": ((1, 2, 5, 5), (2, 2, 3, 3), {"dtype": "complex64"}),
    "wider result": (
        (1, 2, 5, 5),
        (2, 2, 3, 3),
        {"dtype": "bfloat16", "preferred_element_type": "float32"},
    ),
    "no images": ((0, 2, 5, 5), (2, 2, 3, 3), {}),
    "no channels": ((1, 0, 5, 5), (2, 0, 3, 3), {}),
    "no filters": ((1, 2, 5, 5), (0, 2, 3, 3), {}),
    "filter above image": ((1, 2, 2, 2), (2, 2, 3, 3), {}),
    "empty after padding": ((1, 2, 5, 5), (2, 2, 3, 3), {"padding": ((-2, -3), (0, 0))}),
}

if jax.default_backend() == "cpu":  # cuDNN has no such product
    wide = {"dtype": "int8", "preferred_element_type": "int32"}
    LEFT_TO_XLA["int8"] = ((1, 2, 5, 5), (2, 2, 3, 3), wide)


def make(case, seed=0):
    """Arrays and arguments of a case."""
    lhs_shape, rhs_shape, given = case
    arguments = dict(given)
    dtype = arguments.pop("dtype", "float32")
    spatial = len(lhs_shape) - 2
    arguments.setdefault("window_strides", (1,) * spatial)
    arguments.setdefault("padding", "VALID" if spatial else ())
    if dtype == "float32":
        arguments.setdefault("precision", "highest")  # else a GPU rounds as TF32
    rng = np.random.default_rng(seed)
    lhs, rhs = (
        jnp.asarray((4 * rng.standard_normal(shape)).astype(jnp.dtype(dtype)))
        for shape in (lhs_shape, rhs_shape)
    )
    return lhs, rhs, arguments


def weights_like(x):
    """A cotangent."""
    values = np.cos(np.arange(math.prod(x.shape))).reshape(x.shape)
    return jnp.asarray(values.astype(x.dtype))


def assert_close(got, want):
    """Equal types, and values up to the rounding of the type's sums."""
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        wide = [np.asarray(x).astype(np.result_type(x.dtype, np.float32)) for x in (one, other)]
        exact = not jnp.issubdtype(one.dtype, jnp.inexact)
        step = 0 if exact else 8 * float(jnp.finfo(one.dtype).eps)
        largest = max(1.0, float(np.abs(wide[1]).max(initial=0)))
        np.testing.assert_allclose(*wide, rtol=0, atol=step * largest)
