"""The rule table, and what `explain` says of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdirect
from jaxdirect import _ffi
from jaxdirect.conv import _predicates, rules
from jaxdirect.conv.geometry import Geometry

LHS = jax.ShapeDtypeStruct((2, 8, 8, 4), "float32")
RHS = jax.ShapeDtypeStruct((3, 3, 4, 6), "float32")
ARGUMENTS = {
    "window_strides": (1, 1),
    "padding": "SAME",
    "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
}
TABLE = (
    rules.Rule("cpu", ("fprop",), "wide", lambda g, d, p: g.width > 100, "XLA is faster", False),
    rules.Rule("cpu", ("fprop",), "any", lambda g, d, p: True, "it is faster"),
    rules.Rule("cpu", ("dgrad",), "any", lambda g, d, p: True, "XLA is faster", chosen=False),
)


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr(rules, "TABLE", TABLE)
    monkeypatch.setattr(rules, "native_plan", lambda *_: ("tiled", 0, 55.0))


def test_lines_of_each_pass(table):
    text = str(jaxdirect.conv.explain(LHS, RHS, **ARGUMENTS, platform="cpu"))
    assert text.splitlines() == [
        "conv_general_dilated on cpu: 2x8x8x4 * 3x3x4x6 -> 2x8x8x6 (pad_h 1, pad_w 1)",
        "  forward          native tiled: any: it is faster, 0.055 ms expected",
        "  gradient of lhs  XLA: any: XLA is faster",
        "  gradient of rhs  XLA: no rule takes 2x8x8x4 * 3x3x4x6 -> 2x8x8x6 "
        "(pad_h 1, pad_w 1) in float32",
    ]


def test_forced_kernels_and_the_reference(table):
    forced = jaxdirect.conv.explain(LHS, RHS, **ARGUMENTS, implementation="native", platform="cpu")
    assert (forced.lhs_gradient.native, forced.lhs_gradient.kernel) == (True, "tiled")
    plain = jaxdirect.conv.explain(LHS, RHS, **ARGUMENTS, implementation="reference")
    assert "implementation='reference'" in plain.forward.reason


def test_the_first_rule_that_applies_decides(table):
    wide = jax.ShapeDtypeStruct((2, 8, 101, 4), "float32")
    choice = jaxdirect.conv.explain(wide, RHS, **ARGUMENTS, platform="cpu").forward
    assert (choice.native, choice.reason) == (False, "wide: XLA is faster")


def test_arrays_tell_the_same_as_shapes(table):
    arrays = jnp.zeros(LHS.shape), jnp.zeros(RHS.shape)
    assert jaxdirect.conv.explain(*arrays, **ARGUMENTS) == jaxdirect.conv.explain(
        LHS, RHS, **ARGUMENTS
    )


def test_a_transposed_convolution_is_computed_by_dgrad(table):
    arguments = ARGUMENTS | {"lhs_dilation": (2, 2), "padding": ((1, 1), (1, 1))}
    why = jaxdirect.conv.explain(LHS, RHS, **arguments, implementation="native", platform="cpu")
    assert (why.forward.reason, why.lhs_gradient.reason) == (
        "any: XLA is faster",
        "any: it is faster",
    )


def test_other_platforms_and_builds(table, monkeypatch):
    assert not jaxdirect.conv.explain(LHS, RHS, **ARGUMENTS, platform="tpu").forward.native
    monkeypatch.setattr(_ffi, "module", lambda platform: ModuleNotFoundError(platform))
    assert "install" in jaxdirect.conv.explain(LHS, RHS, **ARGUMENTS).forward.reason


@pytest.mark.parametrize(
    ("sizes", "why"),
    [
        ({"batch": 0}, "an array is empty"),
        ({"stride_h": 0}, "a stride or a dilation is not positive"),
        ({"pad_w": -(2**24) - 1}, "an extent is past 32-bit coordinates"),
        ({"stride_h": 2**24, "out_height": 2**8}, "an extent is past 32-bit coordinates"),
        ({}, None),
    ],
)
def test_what_no_native_code_takes(sizes, why):
    names = "batch height width channels filter_height filter_width out_height out_width"
    base = dict.fromkeys([*names.split(), "out_channels"], 2)
    assert Geometry(**(base | sizes)).unfit() == why


def test_every_rule_is_well_formed():
    for rule in rules.TABLE:
        assert rule.platform in ("cpu", "cuda")
        assert set(rule.ops) <= set(rules.PASSES)
        assert rule.reason


def test_what_no_kernel_takes_goes_to_xla(monkeypatch):
    monkeypatch.setattr(rules, "native_plan", lambda *_: None)
    choice = jaxdirect.conv.explain(LHS, RHS, **ARGUMENTS, platform="cpu").forward
    assert (choice.native, choice.kernel) == (False, None)
    assert choice.reason.startswith("no native fprop takes 2x8x8x4")


def test_a_plan_says_what_the_kernel_needs():
    geometry = Geometry.of((2, 8, 8, 4), (3, 3, 4, 6), (2, 6, 6, 6))
    kernel, workspace, microseconds = rules.native_plan(
        "cpu", "wgrad", geometry, np.dtype("float32"), 1
    )
    assert (kernel, workspace, microseconds) == ("im2win", 0, 0)
    depthwise = Geometry.of((2, 8, 8, 4), (3, 3, 1, 4), (2, 6, 6, 4), groups=4)
    assert rules.native_plan("cpu", "fprop", depthwise, np.dtype("float32"), 1)[0] == "depthwise"


@pytest.mark.skipif(not _ffi.available("cuda"), reason="built without CUDA")
def test_plans_for_a_gpu_need_none():
    layer = Geometry.of((128, 56, 56, 64), (3, 3, 64, 64), (128, 54, 54, 64))
    half, single = np.dtype(jnp.bfloat16), np.dtype("float32")
    for op in rules.PASSES:
        kernel, workspace, microseconds = rules.native_plan("cuda", op, layer, half, 0)
        assert kernel
        assert (workspace > 0) == (op == "wgrad")  # the sums of slices
        assert 20 < microseconds < 200
    assert rules.native_plan("cuda", "fprop", layer, single, 1)[1] == 3 * 2 * 9 * 64 * 64
    for precision, products in enumerate(("BF16x3", "BF16x6")):
        kernel, workspace, microseconds = rules.native_plan(
            "cuda", "wgrad", layer, single, precision
        )
        assert kernel.endswith(products)
        assert workspace > 0
        assert 100 < microseconds < 400
    stem = Geometry.of((8, 32, 32, 3), (3, 3, 3, 64), (8, 30, 30, 64))
    for dtype, precision in ((half, 0), (single, 0), (single, 1)):
        kernel, workspace, _ = rules.native_plan("cuda", "fprop", stem, dtype, precision)
        assert kernel.startswith("stem tiles")
        assert workspace == 0
        assert rules.native_plan("cuda", "wgrad", stem, dtype, precision)[1] > 0
    assert rules.native_plan("cuda", "dgrad", stem, half, 0) is None


@pytest.mark.parametrize(
    ("batch", "size", "channels", "wanted"),
    [(128, 12, 256, True), (128, 10, 256, False), (128, 12, 128, False)],
)
def test_what_cudnn_transforms_is_left_to_it(batch, size, channels, wanted):
    x, y = (batch, size, size, channels), (batch, size, size, 512)
    layer = Geometry.of(x, (3, 3, channels, 512), y, pad_h=1, pad_w=1)
    assert _predicates.accurate_to_many(layer, np.dtype("float32"), 1) == wanted
    assert not _predicates.accurate_to_many(layer, np.dtype("float32"), 0)


@pytest.mark.skipif(not _ffi.available("cuda"), reason="built without CUDA")
def test_plans_of_groups_for_a_gpu():
    half, single = np.dtype(jnp.bfloat16), np.dtype("float32")

    def plan(op, groups, channels=128, dtype=half, precision=0):
        x = (128, 56, 56, channels)
        geometry = Geometry.of(
            x, (3, 3, channels // groups, channels), x, pad_h=1, pad_w=1, groups=groups
        )
        return rules.native_plan("cuda", op, geometry, dtype, precision)

    for op in rules.PASSES:
        kernel, workspace, microseconds = plan(op, 32)
        assert kernel == "groups in blocks of 16"  # of 4 channels, 128 bytes
        assert (workspace > 0) == (op == "wgrad")  # the sums of slices
        assert 40 < microseconds < 120
        assert plan(op, 6, 36) is None  # pixels are not of whole 16 bytes
        assert plan(op, 2, 256) is None  # a group is more than a block
        assert plan(op, 32, dtype=single, precision=1) is None
    assert plan("fprop", 32, dtype=single)[0] == "groups in blocks of 8"
    assert plan("wgrad", 32, dtype=single) is None
