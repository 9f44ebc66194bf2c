"""What one call of `conv_general_dilated` asks for, in canonical form where there is one.

JAX itself says what the arguments mean: the call is traced, and its one equation has every
default filled in, the padding in numbers, and is refused where JAX refuses it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdirect.conv.geometry import Geometry

_DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Problem:
    """A convolution in canonical form.

    Attributes:
        geometry: its sizes.
        dtype: of operands and result.
        transposed: whether it is the dgrad of `geometry`, the lhs being y.
        one_axis: whether height is only there to make one spatial dimension two.
        lhs_axes: the axes of lhs as `[N, spatial..., C]`.
        rhs_axes: the axes of rhs as `[spatial..., I, O]`.
        out_axes: the axes of the result as `[N, spatial..., C]`.
    """

    geometry: Geometry
    dtype: str
    transposed: bool
    one_axis: bool
    lhs_axes: tuple[int, ...]
    rhs_axes: tuple[int, ...]
    out_axes: tuple[int, ...]

    @property
    def passes(self) -> dict[str, str]:
        """Which pass of `geometry` computes the result and each gradient."""
        forward, lhs = ("dgrad", "fprop") if self.transposed else ("fprop", "dgrad")
        return {"forward": forward, "gradient of lhs": lhs, "gradient of rhs": "wgrad"}

    def images(self, lhs: Array) -> Array:
        """lhs as NHWC."""
        images = jnp.transpose(lhs, self.lhs_axes)
        return images[:, None] if self.one_axis else images

    def filters(self, rhs: Array) -> Array:
        """rhs as the HWIO filters of `geometry`."""
        filters = jnp.transpose(rhs, self.rhs_axes)
        filters = filters[None] if self.one_axis else filters
        if not self.transposed:
            return filters
        # The transpose reads the taps from the other end, and outputs where inputs were.
        r, s, inputs, outputs = filters.shape
        groups = self.geometry.groups
        split = filters[::-1, ::-1].reshape(r, s, inputs, groups, outputs // groups)
        swapped = jnp.transpose(split, (0, 1, 4, 3, 2))
        return swapped.reshape(r, s, outputs // groups, groups * inputs)

    def result(self, y: Array) -> Array:
        """The result from NHWC."""
        y = y[:, 0] if self.one_axis else y
        places = sorted(range(y.ndim), key=self.out_axes.__getitem__)
        return jnp.transpose(y, places)


@dataclasses.dataclass(frozen=True)
class Traced:
    """A call as JAX understands it.

    Attributes:
        params: the parameters of its equation.
        dtype: of lhs.
        problem: its canonical form, or a sentence why it has none.
    """

    params: Mapping[str, Any]
    dtype: Any
    problem: Problem | str


class _Call:
    """Arguments that are no arrays, as a key: equal only if their types are equal too."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.arguments = arguments
        self._key = _typed(arguments)
        self._hash = hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Call) and self._key == other._key


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((name, _typed(entry)) for name, entry in value.items())
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(_typed, value))
    return type(value), value


def _jitted(call: _Call) -> Any:
    return jax.jit(functools.partial(jax.lax.conv_general_dilated, **call.arguments))


_cached = functools.lru_cache(maxsize=1024)(_jitted)


def trace(lhs: Any, rhs: Any, arguments: dict[str, Any]) -> Traced | None:
    """What the call means; None where JAX refuses it."""
    try:
        try:
            jitted = _cached(_Call(arguments))
        except TypeError:  # not hashable
            jitted = jax.jit(functools.partial(jax.lax.conv_general_dilated, **arguments))
        equations = jitted.trace(lhs, rhs).jaxpr.jaxpr.eqns
    except Exception:
        return None
    (equation,) = (e for e in equations if e.primitive.name == "conv_general_dilated")
    operands = [variable.aval for variable in equation.invars]
    problem = _canonical(operands, equation.outvars[0].aval, equation.params)
    return Traced(equation.params, operands[0].dtype, problem)


def _not_canonical(operands: Sequence[Any], out: Any, params: Mapping[str, Any]) -> str | None:
    lhs, rhs = operands
    spatial = len(params["window_strides"])
    if any(len(params[name]) != spatial for name in ("padding", "lhs_dilation", "rhs_dilation")):
        return "its arguments differ in their number of spatial dimensions"
    if spatial not in (1, 2):
        return f"it has {spatial} spatial dimensions, native code takes 1 and 2"
    if not all(isinstance(size, int) for size in (*lhs.shape, *rhs.shape, *out.shape)):
        return "a size is symbolic"
    if lhs.dtype.name not in _DTYPES or rhs.dtype != lhs.dtype:
        return f"native code takes {', '.join(_DTYPES)}, got {lhs.dtype} and {rhs.dtype}"
    if out.dtype != lhs.dtype:
        return f"preferred_element_type {out.dtype} is not the operands' {lhs.dtype}"
    if out.weak_type:
        return "its operands are weakly typed, as jnp.full's of a Python number are"
    if params["batch_group_count"] != 1:
        return "batch_group_count is not 1"
    if max(params["lhs_dilation"]) > 1 and max(params["window_strides"]) > 1:
        return "lhs_dilation and window_strides are both above 1"
    if params["out_sharding"] is not None:
        return "out_sharding is given"
    batch = params["dimension_numbers"].lhs_spec[0]
    split = {axis for axis, name in enumerate(lhs.sharding.spec) if name is not None} - {batch}
    if split or any(name is not None for name in rhs.sharding.spec):
        return "an axis other than lhs's batch is split over explicit mesh axes"
    return None


def _canonical(operands: Sequence[Any], out: Any, params: Mapping[str, Any]) -> Problem | str:
    why = _not_canonical(operands, out, params)
    if why is not None:
        return why
    lhs, rhs = operands
    numbers = params["dimension_numbers"]
    # A spec is (batch, feature, spatial...), a filter's is (out, in, spatial...).
    axes = [(spec[0], *spec[2:], spec[1]) for spec in (numbers.lhs_spec, numbers.out_spec)]
    rhs_axes = (*numbers.rhs_spec[2:], numbers.rhs_spec[1], numbers.rhs_spec[0])
    image, y = (
        [array.shape[i] for i in order] for array, order in zip((lhs, out), axes, strict=True)
    )
    filters = [rhs.shape[i] for i in rhs_axes]
    strides, pads = params["window_strides"], [low for low, _ in params["padding"]]
    spread, dilation = params["lhs_dilation"], params["rhs_dilation"]
    one_axis = len(strides) == 1
    if one_axis:
        image.insert(1, 1)
        y.insert(1, 1)
        filters.insert(0, 1)
        pads = [0, *pads]
        strides, spread, dilation = ((1, *values) for values in (strides, spread, dilation))
    transposed = max(spread) > 1
    groups = params["feature_group_count"]
    if transposed:
        # y[p * stride - pad + u * dilation] sums x[p] * filter[u], the taps from the other end.
        taps = zip(filters[:2], dilation, pads, strict=True)
        pads = [(count - 1) * step - pad for count, step, pad in taps]
        image, y, strides = y, image, spread
    geometry = Geometry.of(
        image,
        filters,
        y,
        stride_h=strides[0],
        stride_w=strides[1],
        pad_h=pads[0],
        pad_w=pads[1],
        dilation_h=dilation[0],
        dilation_w=dilation[1],
        groups=groups,
    )
    why = geometry.unfit()
    if why is not None:
        return why
    return Problem(geometry, lhs.dtype.name, transposed, one_axis, axes[0], rhs_axes, axes[1])
