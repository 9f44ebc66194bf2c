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


def reverse_only(op: str, x: Array) -> Array:
    """`x`, for an operation `op` with a `custom_vjp`: forward mode fails with a remedy."""
    return _reverse_only_p.bind(x, op=op)


def _refuse(*_: Any, op: str, **__: Any) -> Any:
    raise TypeError(
        f"{op}: native code has no forward-mode derivative (jvp, jacfwd, linearize); "
        "use implementation='reference', or reverse mode (grad, vjp, jacrev)"
    )


# The identity, and its derivative: reverse mode transposes that away, so that whoever evaluates
# it, or maps over it, is in forward mode. Its transpose is the identity again.
_reverse_only_p = Primitive("reverse_only")
_tangent_p = Primitive("reverse_only_tangent")

for _primitive in (_reverse_only_p, _tangent_p):
    _primitive.def_abstract_eval(lambda x, op: x)

_reverse_only_p.def_impl(lambda x, op: x)
mlir.register_lowering(_reverse_only_p, lambda context, x, op: [x])
batching.primitive_batchers[_reverse_only_p] = lambda operands, axes, op: (
    reverse_only(op, *operands),
    axes[0],
)
ad.primitive_jvps[_reverse_only_p] = lambda primals, tangents, op: (
    reverse_only(op, *primals),
    tangents[0] if isinstance(tangents[0], ad.Zero) else _tangent_p.bind(tangents[0], op=op),
)

_tangent_p.def_impl(_refuse)
mlir.register_lowering(_tangent_p, _refuse)
batching.primitive_batchers[_tangent_p] = _refuse
ad.deflinear2(_tangent_p, lambda cotangent, *_, op: (cotangent,))
