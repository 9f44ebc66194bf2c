"""The paper's own form of Im2win: windows put in order in memory, then a tiled product of them.

It is here to be measured beside the kernels that order windows on the way, and never chosen:
`implementation="im2win_explicit"` asks for it. Its gradients are the passes that `"auto"` takes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdirect import _ffi, _gradient
from jaxdirect.conv import _batching, _ops, rules
from jaxdirect.conv._problem import Problem
from jaxdirect.conv.geometry import Geometry

NAME = "im2win_explicit"

# What is left out of a GPU's product, to see what it is worth; as `Variant` in native code.
VARIANTS = (
    "full",
    "without prefetch",
    "without vector loads",
    "without micro-kernel",
    "without double buffer",
    "base",
    "no product",  # the windows alone
)


def choose(platform: str, problem: Problem | str) -> rules.Choice:
    """Whether this form takes a convolution, and its bytes."""
    if isinstance(problem, str):
        return rules.Choice(False, None, problem)
    if (why := _unfit(platform, problem)) is not None:
        return rules.Choice(False, None, why)
    geometry = problem.geometry
    windows = window_bytes(platform, geometry)
    reason = (
        f"windows in order in memory, {windows / 1e6:,.2f} MB "
        f"(im2col: {im2col_bytes(geometry) / 1e6:,.2f} MB), then a tiled product of them"
    )
    return rules.Choice(True, NAME, reason, workspace_bytes=_workspace_bytes(platform, geometry))


def _unfit(platform: str, problem: Problem) -> str | None:
    geometry = problem.geometry
    if problem.dtype != "float32":
        return f"{NAME} takes float32, got {problem.dtype}"
    if problem.transposed:
        return f"{NAME} takes no lhs_dilation"
    if geometry.groups != 1:
        return f"{NAME} takes one group, got {geometry.groups}"
    if max(geometry.dilation_h, geometry.dilation_w) > 1:
        return f"{NAME} takes no rhs_dilation"
    if not _ffi.available(platform):
        return _ffi.missing(platform)
    if _plan(platform, geometry) is None:
        return "a row of windows is past 32-bit coordinates"
    return None


def _plan(platform: str, geometry: Geometry) -> tuple[str, int, float] | None:
    return rules.native_plan(platform, NAME, geometry, np.dtype("float32"), 1)


def _workspace_bytes(platform: str, geometry: Geometry) -> int:
    plan = _plan(platform, geometry)
    if plan is None:
        raise ValueError(f"{_ops.OP}: {NAME} does not take {geometry}; use implementation='auto'")
    return plan[1]


def window_bytes(platform: str, geometry: Geometry) -> int:
    """Bytes of the ordered windows: of the workspace, what is not the filter in their order."""
    return _workspace_bytes(platform, geometry) - 4 * math.prod(geometry.filter_shape)


def im2col_bytes(geometry: Geometry) -> int:
    """Bytes of all windows side by side, as im2col has them."""
    n, p, q, _ = geometry.y_shape
    return 4 * n * p * q * math.prod(geometry.filter_shape[:3])


def _results(
    platform: str,
    x: Any,
    filters: Any,
    *,
    variant: int,
    result_h: int,
    result_w: int,
    **window: int,
) -> list[jax.ShapeDtypeStruct]:
    y = (x.shape[0], result_h, result_w, filters.shape[3])
    size = _workspace_bytes(platform, Geometry.of(x.shape, filters.shape, y, **window))
    return [jax.ShapeDtypeStruct(y, x.dtype), jax.ShapeDtypeStruct((size,), jnp.uint8)]


def _reference(x: Array, filters: Array, *, variant: int, **attributes: int) -> tuple[Array]:
    return _ops.reference("fprop", x, filters, precision=1, force=0, **attributes)


def _batch(
    call: functools.partial, size: int, batched: list[bool], x: Array, filters: Array
) -> tuple[Array]:
    if all(batched):
        raise ValueError(
            f"{_ops.OP}: implementation='{NAME}' takes one group, and vmap over lhs and rhs makes "
            "groups; map over one of them, or use jax.lax.map or implementation='auto'"
        )
    return _batching.batch("fprop", call, size, batched, x, filters)


_OP = _ffi.Op(
    name=_ops.OP,
    target=f"jaxdirect_conv_{NAME}",
    results=_results,
    num_outputs=1,
    reference=_reference,
    sharding_rule=functools.partial(_ops.sharding_rule, "fprop"),
    batch=_batch,
    unsent=("result_h", "result_w", "dilation_h", "dilation_w", "groups"),
)


@functools.cache
def fprop(variant: str = "full") -> Callable[..., Any]:
    """`_ops.fprop` in this form, by one of `VARIANTS`."""

    @_gradient.custom_vjp(0, 1)
    def run(
        options: _ops.Options,
        result: tuple[int, int],
        x: Float[Array, "n h w c"],
        filters: Float[Array, "r s c k"],
    ) -> Float[Array, "n p q k"]:
        attributes = dict(options.window) | {"variant": VARIANTS.index(variant)}
        attributes |= {"result_h": result[0], "result_w": result[1]}
        return _OP(x, filters, implementation="native", **attributes)[0]

    _ops.define(run, _ops.fprop_gradients)
    return run
