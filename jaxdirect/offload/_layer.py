"""A layer whose backward pass takes named values from where the policy has put them.

The layer is a jaxpr. Forward, it runs with its named values taken out on the way. Backward, it runs
again with each of them put in its place: an identity whose value is the one that waited and whose
cotangent goes on to what had made it, so that what only they needed falls away.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from jaxdirect.offload import _names, _tickets
from jaxdirect.offload.policy import Policy


@dataclasses.dataclass(frozen=True)
class Value:
    """A named value of a layer that does not have to be computed again.

    Attributes:
        index: among the named values of the jaxpr.
        name: its name.
        place: "keep", "host" or "disk".
        type: shape and dtype.
        site: its number in the native cache.
    """

    index: int
    name: str
    place: str
    type: Any
    site: int


@dataclasses.dataclass(frozen=True)
class Layer:
    """What is known of a layer when its forward pass is traced.

    Attributes:
        jaxpr: the layer, of its inputs: what it closes over, then its arguments.
        values: those that wait.
        backward: of the inputs, the waiting values and the cotangents of the outputs, to the
            cotangents of the inputs that have one.
        inputs: which inputs the backward pass needs.
        differentiable: which inputs have a cotangent.
        barrier: keeps the compiler from merging what is computed again with the forward pass.
    """

    jaxpr: Jaxpr
    values: tuple[Value, ...]
    backward: ClosedJaxpr
    inputs: tuple[bool, ...]
    differentiable: tuple[bool, ...]
    barrier: bool


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("inputs", "waiting"), meta_fields=("layer",)
)
@dataclasses.dataclass(frozen=True)
class Residuals:
    """What a forward pass leaves for its backward pass.

    Attributes:
        layer: what is static of it.
        inputs: those that the backward pass needs.
        waiting: the layer's values, or tickets for them.
    """

    layer: Layer
    inputs: list[Any]
    waiting: list[Any]


def is_differentiable(type_: Any) -> bool:
    """Whether a value of that type has a cotangent."""
    return jnp.issubdtype(type_.dtype, jnp.inexact)


@jax.custom_vjp
def _inject(computed: jax.Array, waited: jax.Array) -> jax.Array:
    return waited


def _injected(computed: jax.Array, waited: jax.Array) -> tuple[jax.Array, None]:
    if _tickets.is_planning():  # `_live.py` looks for this pair
        _, waited = jax.lax.optimization_barrier((computed, waited))
    return waited, None


_inject.defvjp(_injected, lambda _, bar: (bar, None))


def plan(jaxpr: Jaxpr, policy: Policy, inputs: Sequence[Any], barrier: bool) -> Layer:
    """Traces the backward pass, to see which inputs and which values it needs."""
    is_planning, site = _tickets.is_planning(), _tickets.new_site
    moves = is_planning or _tickets.available()
    values = [
        Value(index, name, place if place == "keep" or moves else "keep", type_, site(name))
        for index, (name, type_) in enumerate(_names.named(jaxpr))
        if (place := policy.place(name)) != "recompute"
    ]
    differentiable = tuple(is_differentiable(jax.typeof(x)) for x in inputs)

    def traced(values: Sequence[Value]) -> ClosedJaxpr:
        def backward(inputs: list[Any], waited: list[Any], bars: list[Any]) -> list[Any]:
            by_index = {v.index: w for v, w in zip(values, waited, strict=True)}

            def visit(index: int, name: str, value: Any) -> Any:
                return _inject(value, by_index[index]) if index in by_index else value

            def forward(*chosen: Any) -> list[Any]:
                rest = iter(chosen)
                full = [
                    next(rest) if is_chosen else x
                    for x, is_chosen in zip(inputs, differentiable, strict=True)
                ]
                results = _names.Run(visit)(jaxpr, full)
                return [y for y in results if is_differentiable(jax.typeof(y))]

            chosen = [x for x, keep in zip(inputs, differentiable, strict=True) if keep]
            return list(jax.vjp(forward, *chosen)[1](bars))

        outs = [atom.aval for atom in jaxpr.outvars if is_differentiable(atom.aval)]
        return jax.make_jaxpr(backward)(list(inputs), [v.type for v in values], outs)

    full = traced(values)
    wanted = _names.needed(full.jaxpr)
    used = wanted[len(inputs) : len(inputs) + len(values)]
    kept = tuple(v for v, is_used in zip(values, used, strict=True) if is_used or is_planning)
    if len(kept) < len(values):
        for name in sorted({v.name for v in values} - {v.name for v in kept}):
            warnings.warn(
                f"checkpoint: the backward pass does not need {name!r}: it is not moved",
                stacklevel=2,
            )
        full = traced(kept)
        wanted = _names.needed(full.jaxpr)
    return Layer(jaxpr, kept, full, tuple(wanted[: len(inputs)]), differentiable, barrier)


def forward(layer: Layer, inputs: Sequence[Any]) -> tuple[list[Any], Residuals]:
    """The layer's outputs, and what the backward pass takes."""
    waiting: dict[int, Any] = {}
    by_index = {v.index: v for v in layer.values}

    def visit(index: int, name: str, value: Any) -> Any:
        if (found := by_index.get(index)) is None:
            return checkpoint_name(value, name)
        if found.place == "keep":
            value = waiting[index] = _rounded(value)
        else:
            value, waiting[index] = _tickets.store(value, found.site, found.place)
        return value

    outputs = _names.Run(visit)(layer.jaxpr, inputs)
    needed = [x for x, keep in zip(inputs, layer.inputs, strict=True) if keep]
    return outputs, Residuals(layer, needed, [waiting[v.index] for v in layer.values])


def backward(residuals: Residuals, bars: Sequence[Any]) -> tuple[Any, ...]:
    """Cotangents of the inputs; None for those that have none."""
    layer, needed, waiting = residuals.layer, residuals.inputs, residuals.waiting
    atoms = layer.jaxpr.outvars
    bars = [b for b, a in zip(bars, atoms, strict=True) if is_differentiable(a.aval)]
    if layer.barrier:
        needed, waiting, bars = jax.lax.optimization_barrier((needed, waiting, bars))
    waited = [_waited(v, w, bars) for v, w in zip(layer.values, waiting, strict=True)]
    rest = iter(needed)
    inputs = [
        next(rest) if keep else _unread(var.aval)
        for var, keep in zip(_names.variables(layer.jaxpr), layer.inputs, strict=True)
    ]
    run = jaxpr_as_fun(layer.backward)
    found = iter(run(*inputs, *waited, *bars))
    return tuple(next(found) if has_bar else None for has_bar in layer.differentiable)


def _unread(type_: Any) -> jax.Array:
    return jnp.zeros(type_.shape, type_.dtype)


def _waited(value: Value, waiting: Any, bars: Sequence[Any]) -> Any:
    if value.place == "keep":
        return waiting
    return _tickets.fetch(waiting, value.type, bars[0], value.site, value.place)


def _rounded(value: jax.Array) -> jax.Array:
    """As `jax.checkpoint` does with what it saves: excess precision would differ later."""
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return value
    info = jnp.finfo(value.dtype)
    return jax.lax.reduce_precision(value, exponent_bits=info.nexp, mantissa_bits=info.nmant)
