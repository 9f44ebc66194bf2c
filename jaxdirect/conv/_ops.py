"""The three passes of a convolution as native operations, each the gradient of the others."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdirect import _compat, _ffi, _gradient
from jaxdirect.conv import _batching, rules
from jaxdirect.conv.geometry import Geometry

OP = "conv_general_dilated"
PRECISIONS = (jax.lax.Precision.DEFAULT, jax.lax.Precision.HIGHEST)
_LAYOUT = ("NHWC", "HWIO", "NHWC")


@dataclasses.dataclass(frozen=True)
class Options:
    """What the three passes of a convolution share beside their arrays.

    Attributes:
        window: the attributes of `geometry.WINDOW`, by name.
        precision: 0 lets float32 products be rounded as TF32, 1 is float32 accuracy.
        force: whether kernels run that the rules do not choose.
    """

    window: tuple[tuple[str, int], ...]
    precision: int
    force: bool


def _geometry(kind: str, a: Any, b: Any, result_h: int, result_w: int, **window: int) -> Geometry:
    """The convolution of which `a` and `b` are the operands of pass `kind`."""
    groups = window["groups"]
    if kind == "fprop":
        return Geometry.of(a.shape, b.shape, (a.shape[0], result_h, result_w, b.shape[3]), **window)
    if kind == "dgrad":
        x = (a.shape[0], result_h, result_w, b.shape[2] * groups)
        return Geometry.of(x, b.shape, a.shape, **window)
    filters = (result_h, result_w, a.shape[3] // groups, b.shape[3])
    return Geometry.of(a.shape, filters, b.shape, **window)


def _choice(
    kind: str, platform: str, *operands: Any, precision: int, force: int, **rest: int
) -> rules.Choice:
    geometry = _geometry(kind, *operands, **rest)
    dtype = operands[0].dtype
    return rules.choose(platform, kind, geometry, dtype, precision, force=bool(force))


def _covers(kind: str, platform: str, *operands: Any, **attributes: int) -> bool:
    return _choice(kind, platform, *operands, **attributes).native


def _results(kind: str, platform: str, a: Any, b: Any, **attributes: int) -> list:
    rest = {k: v for k, v in attributes.items() if k not in ("precision", "force")}
    geometry = _geometry(kind, a, b, **rest)
    shapes = {"fprop": geometry.y_shape, "dgrad": geometry.x_shape, "wgrad": geometry.filter_shape}
    size = _choice(kind, platform, a, b, **attributes).workspace_bytes
    return [
        jax.ShapeDtypeStruct(shapes[kind], a.dtype),
        jax.ShapeDtypeStruct((size,), jnp.uint8),
    ]


def reference(
    kind: str, a: Array, b: Array, *, precision: int, force: int, **rest: int
) -> tuple[Array]:
    geometry = _geometry(kind, a, b, **rest)

    def fprop(x: Array, filters: Array) -> Array:
        return jax.lax.conv_general_dilated(
            x,
            filters,
            (geometry.stride_h, geometry.stride_w),
            geometry.padding,
            rhs_dilation=(geometry.dilation_h, geometry.dilation_w),
            dimension_numbers=_LAYOUT,
            feature_group_count=geometry.groups,
            precision=PRECISIONS[precision],
        )

    if kind == "fprop":
        return (fprop(a, b),)
    # The other two passes are its transposes.
    if kind == "dgrad":
        linear, shape, y = (lambda x: fprop(x, b)), geometry.x_shape, a
    else:
        linear, shape, y = (lambda filters: fprop(a, filters)), geometry.filter_shape, b
    operand = _compat.result_like(jax.ShapeDtypeStruct(shape, a.dtype), a)
    return tuple(jax.linear_transpose(linear, operand)(y))


def sharding_rule(kind: str, *_: int, groups: int, **__: int) -> tuple[str, tuple[str, ...]]:
    """Images are split over devices; channels that no sum runs over too, in one group."""
    inputs = "c" if groups == 1 else "i"
    axes = {"x": "n h w c", "filter": f"r s {inputs} k", "y": "n p q k"}
    (first, second), result = _batching.ROLES[kind]
    free = {"n"}
    if groups == 1:
        free |= {"fprop": {"k"}, "dgrad": {"c"}, "wgrad": {"c", "k"}}[kind]
    names = f"{axes[first]} {axes[second]} {axes[result]}".split()
    whole = tuple(factor for factor in dict.fromkeys(names) if factor not in free)
    return f"{axes[first]}, {axes[second]} -> {axes[result]}", whole


def _op(kind: str) -> _ffi.Op:
    return _ffi.Op(
        name=OP,
        target=f"jaxdirect_conv_{kind}",
        results=functools.partial(_results, kind),
        num_outputs=1,
        reference=functools.partial(reference, kind),
        sharding_rule=functools.partial(sharding_rule, kind),
        batch=functools.partial(_batching.batch, kind),
        covers=functools.partial(_covers, kind),
        reduced=("n",) if kind == "wgrad" else (),
        unsent=("result_h", "result_w", "force"),
    )


_OPS = {kind: _op(kind) for kind in rules.PASSES}


def _run(kind: str, options: Options, a: Array, b: Array, result: tuple[int, int]) -> Array:
    attributes: dict[str, Any] = dict(options.window)
    attributes |= {"precision": options.precision, "force": options.force}
    attributes |= {"result_h": result[0], "result_w": result[1]}
    return _OPS[kind](a, b, **attributes)[0]


@_gradient.custom_vjp(0, 1)
def fprop(
    options: Options,
    result: tuple[int, int],
    x: Float[Array, "n h w c"],
    filters: Float[Array, "r s i k"],
) -> Float[Array, "n p q k"]:
    """The convolution; `result` is `(P, Q)`."""
    return _run("fprop", options, x, filters, result)


@_gradient.custom_vjp(0, 1)
def dgrad(
    options: Options,
    result: tuple[int, int],
    y: Float[Array, "n p q k"],
    filters: Float[Array, "r s i k"],
) -> Float[Array, "n h w c"]:
    """Its transpose in x; `result` is `(H, W)`."""
    return _run("dgrad", options, y, filters, result)


@_gradient.custom_vjp(0, 1)
def wgrad(
    options: Options,
    result: tuple[int, int],
    x: Float[Array, "n h w c"],
    y: Float[Array, "n p q k"],
) -> Float[Array, "r s i k"]:
    """Its transpose in the filter; `result` is `(R, S)`."""
    return _run("wgrad", options, x, y, result)


def _images(x: Array) -> tuple[int, int]:
    return x.shape[1], x.shape[2]


def _filters(x: Array) -> tuple[int, int]:
    return x.shape[0], x.shape[1]


def define(op: Any, backward: Any) -> None:
    """Gives `op`, called as `fprop` is, its gradients: `backward(options, *operands, bar)`."""

    def forward(options: Options, result: tuple[int, int], a: Array, b: Array) -> tuple:
        return op(options, result, a, b), (a, b)

    op.defvjp(forward, lambda options, _, operands, bar: backward(options, *operands, bar))


def fprop_gradients(options: Options, x: Array, filters: Array, y: Array) -> tuple[Array, Array]:
    """Of both operands, from that of the result."""
    return dgrad(options, _images(x), y, filters), wgrad(options, _filters(filters), x, y)


define(fprop, fprop_gradients)
define(
    dgrad,
    lambda options, y, filters, x: (
        fprop(options, _images(y), x, filters),
        wgrad(options, _filters(filters), x, y),
    ),
)
define(
    wgrad,
    lambda options, x, y, filters: (
        dgrad(options, _images(x), y, filters),
        fprop(options, _images(y), x, filters),
    ),
)
