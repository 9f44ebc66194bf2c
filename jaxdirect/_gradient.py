"""What the families' gradients share: sums over devices, and a word on forward mode."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from jaxdirect import _compat


def custom_vjp(*nondiff_argnums: int) -> Callable[[Callable[..., Any]], Any]:
    """`jax.custom_vjp` with static arguments, as a decorator.

    In a `shard_map` the gradients of what all devices share are summed over them.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        inner = jax.custom_vjp(function, nondiff_argnums=nondiff_argnums)

        @functools.wraps(function)
        def call(*args: Any) -> Any:
            places = [i for i in range(len(args)) if i not in nondiff_argnums]
            leaves, structure = jax.tree.flatten([args[i] for i in places])
            matched = jax.tree.unflatten(structure, _compat.match_varying(*leaves))
            given = dict(zip(places, matched, strict=True))
            return inner(*(given.get(i, arg) for i, arg in enumerate(args)))

        call.defvjp = inner.defvjp  # type: ignore[attr-defined]
        return call

    return decorate


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def reverse_only(op: str, x: Array) -> Array:
    """`x`, for an operation `op` with a `custom_vjp`: forward mode fails with a remedy."""
    return x


@reverse_only.defjvp
def _(op: str, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    return reverse_only(op, x), _tangent_p.bind(tangent, op=op)


# Reverse mode transposes it away; whoever evaluates it is in forward mode.
_tangent_p = Primitive("reverse_only_tangent")


def _refuse(*_: Any, op: str, **__: Any) -> Any:
    raise TypeError(
        f"{op}: native code has no forward-mode derivative (jvp, jacfwd, linearize); "
        "use implementation='reference', or reverse mode (grad, vjp, jacrev)"
    )


_tangent_p.def_impl(_refuse)
_tangent_p.def_abstract_eval(lambda tangent, op: tangent)
mlir.register_lowering(_tangent_p, _refuse)
ad.deflinear2(_tangent_p, lambda cotangent, *_, op: (cotangent,))
batching.primitive_batchers[_tangent_p] = _refuse
