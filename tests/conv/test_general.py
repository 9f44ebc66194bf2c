"""`conv_general_dilated` in the place of JAX's: numbers, types and errors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conv_cases import CANONICAL, LEFT_TO_XLA, assert_close, make

import jaxdirect
from jaxdirect import _ffi
from jaxdirect.conv import rules

ALL = CANONICAL | LEFT_TO_XLA


@pytest.mark.parametrize("name", ALL)
def test_equals_jax(name):
    lhs, rhs, arguments = make(ALL[name])
    want = jax.lax.conv_general_dilated(lhs, rhs, **arguments)
    for implementation in ("auto", "reference"):
        got = jaxdirect.conv_general_dilated(lhs, rhs, **arguments, implementation=implementation)
        assert_close(got, want)
        assert got.weak_type == want.weak_type


def test_weak_types_numpy_arrays_and_x64():
    lhs, rhs = np.ones((1, 2, 5, 5)), np.ones((3, 2, 3, 3))
    assert jaxdirect.conv_general_dilated(lhs, rhs, (1, 1), "SAME").dtype == jnp.float32
    weak = jnp.full((1, 2, 5, 5), 1.0), jnp.full((3, 2, 3, 3), 1.0)
    assert jaxdirect.conv_general_dilated(*weak, (1, 1), "SAME").weak_type
    with jax.enable_x64(True):
        assert jaxdirect.conv_general_dilated(lhs, rhs, (1, 1), "SAME").dtype == jnp.float64


LHS, RHS = jnp.ones((4, 6, 5, 5)), jnp.ones((6, 6, 3, 3))
WRONG = {
    "ranks": ((LHS[0], RHS), {}),
    "channels": ((LHS, RHS[:, :5]), {}),
    "dtypes": ((LHS, RHS.astype("bfloat16")), {}),
    "lists": (([[1.0]], RHS), {}),
    "strides": ((LHS, RHS), {"window_strides": (1,)}),
    "fractional strides": ((LHS, RHS), {"window_strides": (1.0, 1.0)}),
    "zero strides": ((LHS, RHS), {"window_strides": (0, 1)}),
    "no strides": ((LHS, RHS), {"window_strides": None}),
    "padding": ((LHS, RHS), {"padding": "same?"}),
    "padding pairs": ((LHS, RHS), {"padding": (1, 1)}),
    "padding count": ((LHS, RHS), {"padding": ((1, 1),)}),
    "transposed by name": ((LHS, RHS), {"lhs_dilation": (2, 2)}),
    "dilation": ((LHS, RHS), {"rhs_dilation": (1,)}),
    "zero dilation": ((LHS, RHS), {"rhs_dilation": (0, 1)}),
    "layout": ((LHS, RHS), {"dimension_numbers": ("NHWC", "HWIO")}),
    "layout letters": ((LHS, RHS), {"dimension_numbers": ("NHWC", "HWIO", "NHWX")}),
    "groups": ((LHS, RHS), {"feature_group_count": 4}),
    "no groups": ((LHS, RHS), {"feature_group_count": 0}),
    "both groups": ((LHS, RHS[:, :3]), {"feature_group_count": 2, "batch_group_count": 2}),
    "batch groups": ((LHS, RHS), {"batch_group_count": 3}),
    "precision": ((LHS, RHS), {"precision": "sharp"}),
    "precisions": ((LHS, RHS), {"precision": ("high", "high", "high")}),
    "result type": ((LHS, RHS), {"preferred_element_type": "int32"}),
    "no taps": ((LHS, RHS[:, :, :0]), {"padding": "VALID"}),
    "negative strides": ((LHS, RHS), {"window_strides": (-1, 1)}),
    "fractional padding": ((LHS, RHS), {"padding": ((0.5, 0), (0, 0))}),
    "too much cut off": ((LHS, RHS), {"padding": ((-9, 0), (0, 0))}),
    "transposed twice": ((LHS, RHS), {"lhs_dilation": (2,), "padding": ((0, 0), (0, 0))}),
    "no transposition": ((LHS, RHS), {"lhs_dilation": (0, 1), "padding": ((0, 0), (0, 0))}),
    "negative groups": ((LHS, RHS), {"feature_group_count": -2}),
    "results by groups": ((LHS, RHS[:5, :3]), {"feature_group_count": 2}),
    "results by batch groups": ((LHS, RHS[:5]), {"batch_group_count": 2}),
    "complex result": ((LHS, RHS), {"preferred_element_type": "complex64"}),
    "no layout": ((LHS, RHS), {"dimension_numbers": 3}),
    "one array": ((LHS, None), {}),
    "no type": ((LHS, RHS), {"preferred_element_type": "float33"}),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("name", WRONG)
def test_refused_as_by_jax(name):
    (lhs, rhs), changed = WRONG[name]
    arguments = {"window_strides": (1, 1), "padding": "SAME", **changed}
    with pytest.raises(Exception) as expected:  # noqa: PT011
        jax.lax.conv_general_dilated(lhs, rhs, **arguments)
    for implementation in ("auto", "reference"):
        with pytest.raises(type(expected.value)) as raised:
            jaxdirect.conv_general_dilated(lhs, rhs, **arguments, implementation=implementation)
        assert type(raised.value) is type(expected.value)
        # The rest of some messages is a stack.
        assert str(raised.value).splitlines()[:1] == str(expected.value).splitlines()[:1]
    if name not in ("zero strides", "negative strides", "dilation", "transposed twice", "no taps"):
        # JAX refuses those only when it compiles.
        with pytest.raises(type(expected.value)):
            jaxdirect.conv.explain(lhs, rhs, **arguments)


def test_implementation(monkeypatch):
    with pytest.raises(ValueError, match="implementation must be one of auto, native, reference"):
        jaxdirect.conv_general_dilated(LHS, RHS, (1, 1), "SAME", implementation="fast")
    with pytest.raises(ValueError, match=r"does not take this convolution: .*int8.*; use impl"):
        jaxdirect.conv_general_dilated(
            LHS.astype("int8"), RHS.astype("int8"), (1, 1), "SAME", implementation="native"
        )
    monkeypatch.setattr(rules, "native_plan", lambda *_: None)
    with pytest.raises(ValueError, match=r"no native fprop takes .* in float32; use"):
        jaxdirect.conv_general_dilated(LHS, RHS, (1, 1), "SAME", implementation="native")
    monkeypatch.setattr(_ffi, "module", lambda platform: ModuleNotFoundError(platform))
    with pytest.raises(RuntimeError, match=r"implementation='native': .*install"):
        jaxdirect.conv_general_dilated(LHS, RHS, (1, 1), "SAME", implementation="native")


def test_reference_has_forward_mode():
    def conv(x):
        return jaxdirect.conv_general_dilated(x, RHS, (1, 1), "SAME", implementation="reference")

    primal, tangent = jax.jvp(conv, (LHS,), (LHS,))
    np.testing.assert_array_equal(primal, tangent)
