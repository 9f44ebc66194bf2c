"""What `precision` asks for is honoured or refused."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax.lax import DotAlgorithm, Precision
from jax.lax import DotAlgorithmPreset as Preset

import jaxdirect
from jaxdirect.conv import _precision, rules

DEFAULT, HIGHEST = (Precision.DEFAULT,) * 2, (Precision.HIGHEST,) * 2


def resolve(preset, dtype, platform="cpu", kernels=((), (), ())):
    return _precision.resolve(preset, jnp.dtype(dtype), platform, lambda: kernels)


def algorithm(dtype, parts=1, products=1):
    return DotAlgorithm(
        jnp.dtype(dtype), jnp.dtype(dtype), jnp.dtype("float32"), parts, parts, products
    )


@pytest.mark.parametrize(
    ("preset", "dtype", "platform", "expected"),
    [
        (Preset.DEFAULT, "int8", "cpu", DEFAULT),
        (Preset.F32_F32_F32, "float32", "cuda", HIGHEST),
        (algorithm("float32"), "float32", "cuda", HIGHEST),
        (Preset.TF32_TF32_F32, "float32", "cuda", DEFAULT),
        (Preset.BF16_BF16_F32, "bfloat16", "cpu", DEFAULT),
        (algorithm("bfloat16"), "bfloat16", "cpu", DEFAULT),
        (Preset.F16_F16_F32, "float16", "cuda", DEFAULT),
        (Preset.F64_F64_F64, "float64", "cpu", DEFAULT),
    ],
)
def test_honoured(preset, dtype, platform, expected):
    assert resolve(preset, dtype, platform) == expected


@pytest.mark.parametrize(
    ("preset", "dtype", "message"),
    [
        (Preset.F32_F32_F32, "bfloat16", "needs operands of float32, got bfloat16; cast"),
        (Preset.BF16_BF16_F32, "float32", "needs operands of bfloat16, got float32; cast"),
        (Preset.TF32_TF32_F32, "float32", "needs an NVIDIA GPU, got platform 'cpu'"),
        (Preset.BF16_BF16_F32_X9, "float32", "X9 is computed by no kernel for all passes"),
        (Preset.BF16_BF16_F32_X6, "bfloat16", "needs operands of float32, got bfloat16"),
        (Preset.BF16_BF16_BF16, "bfloat16", "BF16_BF16_BF16 is not supported for conv"),
        (Preset.F16_F16_F16, "float16", "F16_F16_F16 is not supported for convolutions"),
        (Preset.ANY_F8_ANY_F8_F32, "float32", "is not supported for convolutions"),
        (algorithm("float32", 2, 3), "float32", "F32_F32_F32_X3 is not supported"),
        (algorithm("bfloat16")._replace(allow_imprecise_accumulation=True), "bfloat16", "not supp"),
    ],
)
def test_refused(preset, dtype, message):
    with pytest.raises(ValueError, match=f"conv_general_dilated: precision .*{message}"):
        resolve(preset, dtype)


def test_split_presets_need_a_kernel_for_each_pass():
    preset, names = algorithm("bfloat16", 3, 6), ("BF16_BF16_F32_X6",)
    assert resolve(preset, "float32", "cuda", (names, names, names)) == HIGHEST
    with pytest.raises(ValueError, match="by no kernel for all passes"):
        resolve(preset, "float32", "cuda", (names, names, ()))


def test_a_kernel_that_honours_a_split_preset_gets_it(native, monkeypatch):
    lhs, rhs = jnp.ones((2, 3, 8, 8)), jnp.ones((4, 3, 3, 3))
    arguments = {"window_strides": (1, 1), "padding": "SAME", "precision": "BF16_BF16_F32_X6"}
    with pytest.raises(ValueError, match="by no kernel for all passes"):
        jaxdirect.conv_general_dilated(lhs, rhs, **arguments)
    honest = tuple(dataclasses.replace(r, presets=("BF16_BF16_F32_X6",)) for r in rules.TABLE)
    monkeypatch.setattr(rules, "TABLE", honest)
    if jax.default_backend() == "cpu":
        assert jaxdirect.conv.explain(lhs, rhs, **arguments).forward.native
        assert jaxdirect.conv_general_dilated(lhs, rhs, **arguments).shape == (2, 4, 8, 8)


def precision_of(implementation, precision, dtype="float32"):
    """The precision in the traced program."""
    lhs, rhs = jnp.ones((2, 3, 8, 8), dtype), jnp.ones((4, 3, 3, 3), dtype)
    jaxpr = jax.make_jaxpr(
        lambda lhs, rhs: jaxdirect.conv_general_dilated(
            lhs, rhs, (1, 1), "SAME", precision=precision, implementation=implementation
        )
    )(lhs, rhs)
    (equation,) = (e for e in jaxpr.eqns if e.primitive.name == "conv_general_dilated")
    return equation.params["precision"]


def test_the_reference_gets_what_a_preset_means():
    assert precision_of("reference", "F32_F32_F32") == HIGHEST
    assert precision_of("reference", Preset.BF16_BF16_F32, "bfloat16") == DEFAULT
    assert precision_of("reference", None) is None
    assert precision_of("reference", ("high", "highest")) == (Precision.HIGH, Precision.HIGHEST)
    with jax.default_matmul_precision("F32_F32_F32"):
        assert precision_of("reference", None) == HIGHEST
    with pytest.raises(ValueError, match="by no kernel"):
        precision_of("reference", "BF16_BF16_F32_X3")


def test_native_levels():
    high, highest = Precision.HIGH, Precision.HIGHEST
    fast = (None, DEFAULT, (high, high))
    assert [_precision.level(precision) for precision in fast] == [0, 0, 0]
    assert _precision.level(HIGHEST) == _precision.level((high, highest)) == 1
