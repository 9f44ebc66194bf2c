"""The passes of a convolution as functions to time, and their repetition over many operands."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from . import operands
from .problem import Problem

# Strings of a convolution function's dimension numbers, by layout: of one and two axes.
NUMBERS = {
    "nhwc": (("NWC", "WIO", "NWC"), ("NHWC", "HWIO", "NHWC")),
    "nchw": (("NCW", "OIW", "NCW"), ("NCHW", "OIHW", "NCHW")),
}
_OURS = 'custom_call_target="jaxdirect_conv'
_CONVOLUTION = re.compile(
    _OURS + r'|custom_call_target="(?:__cudnn\$conv|__onednn\$conv)|\bconvolution\('
)


def convolution(function: Callable, problem: Problem, layout: str, **options: Any) -> Callable:
    """conv(x, w) of a problem by a function with the arguments of JAX's.

    Args:
        function: as `jax.lax.conv_general_dilated`.
        problem: the layer, its padding and its precision.
        layout: "nhwc" or "nchw".
        options: more arguments.
    """
    layer = problem.layer
    precision = jax.lax.Precision.HIGHEST if problem.mode == "fp32" else None
    pads, strides = problem.pads, (layer.stride,) * 2
    if layer.one_d:
        pads, strides = pads[1:], strides[1:]

    def conv(x: jax.Array, w: jax.Array) -> jax.Array:
        return function(
            x,
            w,
            strides,
            pads,
            dimension_numbers=NUMBERS[layout][not layer.one_d],
            feature_group_count=layer.groups,
            precision=precision,
            **options,
        )

    return conv


def one_pass(conv: Callable, problem: Problem, what: str, layout: str) -> Callable:
    """A pass alone, of its operands in the order of `problem.OPERANDS`; returns a tuple."""

    def zeros(operand: str) -> jax.Array:
        axes = operands.LAYOUTS[layout][operand == "w"]
        shape = [problem.shape(operand)[a] for a in axes]
        if problem.layer.one_d:
            del shape[2 if layout == "nchw" else int(operand != "w")]
        return jnp.zeros(shape, operands.dtype(problem))

    def dgrad(y: jax.Array, w: jax.Array) -> tuple:
        return jax.vjp(lambda x: conv(x, w), zeros("x"))[1](y)

    def wgrad(x: jax.Array, y: jax.Array) -> tuple:
        return jax.vjp(lambda w: conv(x, w), zeros("w"))[1](y)

    def training(x: jax.Array, w: jax.Array, y: jax.Array) -> tuple:
        out, pull = jax.vjp(conv, x, w)
        return out, *pull(y)

    if what == "forward":
        return lambda x, w: (conv(x, w),)
    return {"dgrad": dgrad, "wgrad": wgrad, "training": training}[what]


def rotated(function: Callable) -> Callable:
    """f(sets) -> the results of every set of operands, one call after another in one program.

    Each call works on operands of its own, which no slice or copy brings there. A barrier makes
    it wait for the last call. All results are outputs of the program, so that none can be left
    out and no kernel but the calls' own runs between them.
    """

    function = jax.jit(function)  # traced once

    def run(sets: list[tuple]) -> list[tuple]:
        results: list[tuple] = []
        for operands_ in sets:
            if results:
                operands_, results[-1] = jax.lax.optimization_barrier((operands_, results[-1]))
            results.append(function(*operands_))
        return results

    return run


def convolutions(text: str) -> int:
    """How many convolutions a compiled program's text holds."""
    return len(_CONVOLUTION.findall(text))


def native(text: str) -> int:
    """How many of them are ours."""
    return text.count(_OURS)
