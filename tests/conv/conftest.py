"""Native convolutions for the tests, also where this build has no kernel for them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jaxdirect import _ffi
from jaxdirect.conv import rules

LAYOUT = ("NHWC", "HWIO", "NHWC")


def stand_in(target, results, *operands, **attributes):
    """What the native targets compute, from their buffers and attributes alone."""
    a, b = operands
    result = results[0]
    kind = target.rsplit("_", 1)[1]
    shapes = {
        "fprop": (a.shape, b.shape, result.shape),
        "dgrad": (result.shape, b.shape, a.shape),
        "wgrad": (a.shape, result.shape, b.shape),
    }
    x_shape, filters_shape, y_shape = shapes[kind]
    assert set(attributes) == {
        *("stride_h", "stride_w", "pad_h", "pad_w", "dilation_h", "dilation_w"),
        *("groups", "precision"),
    }
    get = attributes.__getitem__

    def pads(axis, letter):
        step, low, spread = (get(f"{name}_{letter}") for name in ("stride", "pad", "dilation"))
        reach = (y_shape[axis] - 1) * step + (filters_shape[axis - 1] - 1) * spread + 1
        return low, reach - low - x_shape[axis]

    def fprop(x, filters):
        return jax.lax.conv_general_dilated(
            x,
            filters,
            (get("stride_h"), get("stride_w")),
            (pads(1, "h"), pads(2, "w")),
            rhs_dilation=(get("dilation_h"), get("dilation_w")),
            dimension_numbers=LAYOUT,
            feature_group_count=get("groups"),
            precision="highest",
        )

    if kind == "fprop":
        out = fprop(a, b)
    elif kind == "dgrad":
        out = jax.vjp(lambda x: fprop(x, b), jnp.zeros_like(a, shape=x_shape))[1](a)[0]
    else:
        out = jax.vjp(lambda f: fprop(a, f), jnp.zeros_like(a, shape=filters_shape))[1](b)[0]
    assert out.shape == result.shape
    return [out, *(jnp.zeros(rest.shape, rest.dtype) for rest in results[1:])]


@pytest.fixture(scope="module")
def native():
    """All passes native on the CPU; the targets that are traced are in the list it gives.

    Kernels that this build lacks are stood in for by `stand_in`. On a GPU its own rules decide.
    """
    calls = []
    real = _ffi.native_call

    def native_call(target, results, *operands, **attributes):
        calls.append(target)
        call = real if target in _ffi.targets("cpu") else stand_in
        return call(target, results, *operands, **attributes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ffi, "native_call", native_call)
        patch.setattr(rules, "COVERED", rules.COVERED | {("cpu", op) for op in rules.PASSES})
        _forget()
        yield calls
    _forget()


def _forget():
    # What was traced keeps its kernels.
    jax.clear_caches()
    _ffi._composed.cache_clear()
