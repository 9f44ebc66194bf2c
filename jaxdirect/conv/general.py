"""`jax.lax.conv_general_dilated` with native passes where they are faster."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jaxtyping import Array, Num

from jaxdirect import _compat, _ffi, _gradient
from jaxdirect.conv import _explicit, _ops, _plan, _problem


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _native(
    problem: _problem.Problem,
    options: _ops.Options,
    fprop: Callable[..., Array],
    lhs: Array,
    rhs: Array,
) -> Array:
    # Outside of the custom derivative, so that forward mode meets it first.
    lhs, rhs = (_gradient.reverse_only(_ops.OP, operand) for operand in (lhs, rhs))
    geometry = problem.geometry
    images, filters = problem.images(lhs), problem.filters(rhs)
    if problem.transposed:
        extents = geometry.height, geometry.width
        return problem.result(_ops.dgrad(options, extents, images, filters))
    extents = geometry.out_height, geometry.out_width
    return problem.result(fprop(options, extents, images, filters))


def _refuse(implementation: str, platform: str, reason: str) -> None:
    asked = f"{_ops.OP}: implementation={implementation!r}"
    if not _ffi.available(platform):
        raise RuntimeError(f"{asked}: {_ffi.missing(platform)}")
    raise ValueError(
        f"{asked} does not take this convolution: {reason}; "
        "use implementation='auto', which leaves to XLA what no kernel takes"
    )


def conv_general_dilated(
    lhs: Num[Array, "..."],
    rhs: Num[Array, "..."],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
    *,
    implementation: str = "auto",
) -> Num[Array, "..."]:
    """A drop-in for `jax.lax.conv_general_dilated`, with native code where that is faster.

    Every argument means what it means there, and what JAX refuses is refused alike. Native are,
    where `jaxdirect.conv.explain` says so, convolutions of one or two spatial dimensions in any
    layout, of float32, bfloat16 or float16 with sums in float32; all others are XLA's.

    Args:
        lhs: the images, `[batch, channels, height, width]` unless `dimension_numbers` differs.
        rhs: the filters, `[out_channels, channels / feature_group_count, height, width]`.
        window_strides: one for each spatial dimension.
        padding: `"SAME"`, `"SAME_LOWER"`, `"VALID"` or `(low, high)` for each spatial dimension.
        lhs_dilation: the spread of the images, as in a transposed convolution.
        rhs_dilation: the spread of the filters.
        dimension_numbers: the layouts, such as `("NHWC", "HWIO", "NHWC")`.
        feature_group_count: the number of groups of channels.
        batch_group_count: the number of groups of images.
        precision: as `jax.lax.Precision`. `HIGHEST` is float32 accuracy; what is below may round
            float32 products as TF32 on a GPU. A `DotAlgorithmPreset`, or an equal `DotAlgorithm`,
            is honoured or refused, on every implementation: `F32_F32_F32` for float32,
            `TF32_TF32_F32` for float32 on a GPU (TF32 or better), `BF16_BF16_F32`, `F16_F16_F32`
            and `F64_F64_F64` for their own types, and `BF16_BF16_F32_X3` to `_X9` and
            `TF32_TF32_F32_X3` where a kernel for each pass computes so.
        preferred_element_type: the dtype of the result.
        out_sharding: the sharding of the result.
        implementation: `"auto"`, `"native"` (also kernels that are not faster; gradients that no
            kernel takes are XLA's), `"reference"` (XLA's convolution alone, which has a forward
            mode derivative) or `"im2win_explicit"` (the paper's own form, for comparison: windows
            in order in memory, then a tiled product; float32, one group, no dilation; its
            gradients are those of `"auto"`).

    Returns:
        The convolution. Gradients are differentiable again, any number of times, in reverse mode.

    Raises:
        ValueError: as JAX does; or `precision` is a preset that nothing honours; or
            `implementation` is unknown, or `"native"` or `"im2win_explicit"` for what it does
            not take.
        RuntimeError: `implementation` is one of these two and native code is not built.
        TypeError: as JAX does; or native code is differentiated in forward mode.

    Source: window order without a copy of the images, Im2win, arXiv:2306.14316.

    Example:
        >>> import jax.numpy as jnp, jaxdirect
        >>> images, filters = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 5))
        >>> layout = ("NHWC", "HWIO", "NHWC")
        >>> jaxdirect.conv_general_dilated(
        ...     images, filters, (1, 1), "VALID", dimension_numbers=layout
        ... ).shape
        (1, 2, 2, 5)
    """
    _ffi.check_implementation(_ops.OP, implementation, _explicit.NAME)
    arguments = {
        "window_strides": window_strides,
        "padding": padding,
        "lhs_dilation": lhs_dilation,
        "rhs_dilation": rhs_dilation,
        "dimension_numbers": dimension_numbers,
        "feature_group_count": feature_group_count,
        "batch_group_count": batch_group_count,
        "precision": precision,
        "preferred_element_type": preferred_element_type,
        "out_sharding": out_sharding,
    }
    traced = _problem.trace(lhs, rhs, arguments)
    if traced is None:  # JAX says what is wrong
        return jax.lax.conv_general_dilated(lhs, rhs, **arguments)
    platform, force = _compat.default_platform(), implementation == "native"
    explicit = implementation == _explicit.NAME
    plan = _plan.plan(traced, platform, force=force, explicit=explicit)
    native = any(choice.native for choice in plan.choices.values())
    if (force or explicit) and not plan.choices["forward"].native:
        _refuse(implementation, platform, plan.choices["forward"].reason)
    if implementation == "reference" or not native or isinstance(plan.problem, str):
        if plan.precision != traced.params["precision"]:
            arguments["precision"] = plan.precision
        return jax.lax.conv_general_dilated(lhs, rhs, **arguments)
    window = tuple(plan.problem.geometry.window.items())
    fprop = _explicit.fprop() if explicit else _ops.fprop
    return _native(plan.problem, _ops.Options(window, plan.level, force), fprop, lhs, rhs)
