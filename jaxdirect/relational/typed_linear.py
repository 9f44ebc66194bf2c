"""A linear map whose weight depends on the row's type."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
from jaxtyping import Array, Float, Int

from jaxdirect import _compat, _gradient
from jaxdirect.relational import _checks
from jaxdirect.relational._device_tiles import tiles_by_type
from jaxdirect.relational._linear_op import linear
from jaxdirect.relational._lists import Tiles
from jaxdirect.relational._outer_op import outer


@dataclasses.dataclass(frozen=True)
class Options:
    """How float32 products are rounded, and what computes them."""

    precision: int
    implementation: str


@_gradient.custom_vjp(3)
def linear_by_tiles(x: Array, weight: Array, tiles: Tiles, options: Options) -> Array:
    """`x[row] @ weight[type of row]`, back in the rows' places; each row in at most one slot."""
    choices = dataclasses.asdict(options)
    return linear((x, True), weight, tiles, num_out=x.shape[0], **choices)


def _fwd(x: Array, weight: Array, tiles: Tiles, options: Options) -> tuple[Array, tuple]:
    return linear_by_tiles(x, weight, tiles, options), (x, weight, tiles)


def _bwd(options: Options, residual: tuple, cotangent: Array) -> tuple[Array, Array, None]:
    x, weight, tiles = residual
    choices = dataclasses.asdict(options)
    rows = x.shape[0]
    x_grad = linear((cotangent, True), weight, tiles, num_out=rows, transposed=True, **choices)
    return x_grad, outer((x, True), (cotangent, True), tiles, **choices), None


linear_by_tiles.defvjp(_fwd, _bwd)


@functools.partial(jax.jit, static_argnums=(3,))
def _typed_linear(x: Array, weight: Array, types: Array, options: Options) -> Array:
    return linear_by_tiles(x, weight, tiles_by_type(types, weight.shape[0]), options)


def typed_linear(
    x: Float[Array, "rows in_dim"],
    weight: Float[Array, "types in_dim out_dim"],
    types: Int[Array, " rows"],
    *,
    precision: Any = None,
    implementation: str = "auto",
) -> Float[Array, "rows out_dim"]:
    """`y[i] = x[i] @ weight[types[i]]`, without a copy of a weight per row.

    Rows are ordered by type on the device, so that types may be traced.

    Args:
        x: `[rows, in_dim]`; float16, bfloat16, float32 or float64 (in plain JAX on a GPU).
        weight: `[num_types, in_dim, out_dim]` of the same dtype.
        types: `[rows]`, integers; a row whose type is out of range becomes 0.
        precision: as `jax.lax.Precision`; for float32 on a GPU the default may use TF32, and
            `HIGHEST` means full float32 accuracy.
        implementation: `"auto"`, `"native"` or `"reference"` (plain JAX).

    Returns:
        `[rows, out_dim]` in x's dtype. Differentiable, any number of times, in x and weight.

    Raises:
        TypeError: x or weight are no floating-point arrays of one dtype, types no integers.
        ValueError: shapes do not fit, an option is unknown, or concrete types are out of range.

    Source: the gather-GEMM of Hector, arXiv:2301.06284; called segment_mm elsewhere.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxdirect.relational import typed_linear
        >>> weight = jnp.array([[[1.0]], [[10.0]]])
        >>> typed_linear(jnp.array([[1.0], [2.0], [3.0]]), weight, jnp.array([1, 0, 1])).ravel()
        Array([10.,  2., 30.], dtype=float32)
    """
    op = "typed_linear"
    x = _checks.floating(op, "x", x)
    weight = _checks.floating(op, "weight", weight)
    _checks.shape(op, "x", x, "rows", "in_dim")
    _checks.shape(op, "weight", weight, "num_types", x.shape[1], "out_dim")
    _checks.same_dtype(op, x=x, weight=weight)
    types = _checks.types(op, types, x.shape[0], weight.shape[0])
    options = Options(_checks.precision(op, precision), _checks.implementation(op, implementation))
    with _compat.native_width(x.dtype):
        return _typed_linear(x, weight, types, options)
