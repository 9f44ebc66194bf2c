"""How relational operations are called: replicated over a mesh, differentiable twice and more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdirect import _ffi, _gradient


def empty(dtype: Any, columns: int | None = None) -> Array:
    """An operand that is left out."""
    return jnp.zeros((0,) if columns is None else (0, columns), dtype)


def replicated(*output_ranks: int) -> Callable:
    """A sharding rule: a graph's rows depend on one another, so every device has them all."""

    def rule(*ranks: int, **_: Any) -> tuple[str, tuple[str, ...]]:
        axes = [[f"a{i}x{axis}" for axis in range(rank)] for i, rank in enumerate(ranks)]
        outputs = [[f"o{i}x{axis}" for axis in range(r)] for i, r in enumerate(output_ranks)]
        sides = (", ".join(" ".join(names) for names in side) for side in (axes, outputs))
        factors = [name for names in (*axes, *outputs) for name in names]
        return " -> ".join(sides), tuple(factors)

    return rule


def map_batch(op: Any, axis_size: int, batched: list[bool], *operands: Array) -> tuple:
    """Batching one element after another: each has the whole graph's work to do."""
    mapped = [x for x, flag in zip(operands, batched, strict=True) if flag]

    def one(elements: list[Array]) -> tuple:
        rest = iter(elements)
        return op(*(next(rest) if flag else x for x, flag in zip(operands, batched, strict=True)))

    return jax.lax.map(one, mapped)


def covers(platform: str, *operands: Any, **_: Any) -> bool:
    """What native code takes: float64 on the CPU alone, and without factors of that width."""
    wide = [operand.dtype == jnp.float64 for operand in operands]
    return not any(wide) or (platform == "cpu" and wide[0])


def covers_narrow(platform: str, *operands: Any, **_: Any) -> bool:
    """What native code takes where results are float32 beside the main ones: no float64."""
    return operands[0].dtype != jnp.float64


@_gradient.custom_vjp(0, 1, 2)
def _call(op: _ffi.Op, implementation: str, static: tuple, *operands: Array) -> tuple:
    return op(*operands, implementation=implementation, **dict(static))


def _fwd(op: _ffi.Op, implementation: str, static: tuple, *operands: Array) -> tuple:
    return _call(op, implementation, static, *operands), operands


def _bwd(
    op: _ffi.Op, implementation: str, static: tuple, operands: tuple, cotangents: tuple
) -> tuple:
    floating = [jnp.issubdtype(x.dtype, jnp.floating) for x in operands]

    def reference(*floats: Array) -> tuple:
        rest = iter(floats)
        full = (next(rest) if flag else x for x, flag in zip(operands, floating, strict=True))
        return tuple(op.reference(*full, **dict(static)))

    floats = [x for x, flag in zip(operands, floating, strict=True) if flag]
    gradients = iter(jax.vjp(reference, *floats)[1](tuple(cotangents)))
    return tuple(next(gradients) if flag else None for flag in floating)


_call.defvjp(_fwd, _bwd)


def call(op: _ffi.Op, *operands: Array, implementation: str, **attributes: int | float) -> tuple:
    """Runs `op`. Its own derivative is that of its reference.

    The layers' gradients are written with operations like this one; only a gradient of a
    gradient comes here.
    """
    return _call(op, implementation, tuple(sorted(attributes.items())), *operands)


def row_of_entry(indptr: Array, num_entries: int) -> Array:
    """The row of each entry; entries that belong to none get the number of rows."""
    num_rows = indptr.shape[0] - 1
    starts = jnp.zeros(num_entries + 1, jnp.int32).at[indptr[1:]].add(1, mode="drop")
    return jnp.cumsum(starts[:num_entries]) if num_rows else jnp.zeros(num_entries, jnp.int32)


def take_rows(x: Array, indices: Array) -> Array:
    """Rows of `x`; an index out of range gives zeros."""
    shape = (*indices.shape, *x.shape[1:])
    if x.shape[0] == 0:
        return jnp.zeros(shape, x.dtype)
    valid = (indices >= 0) & (indices < x.shape[0])
    rows = jnp.take(x, jnp.where(valid, indices, 0), axis=0)
    return jnp.where(valid.reshape(valid.shape + (1,) * (x.ndim - 1)), rows, 0)


def accumulator(dtype: Any) -> Any:
    """The type that sums of `dtype` are kept in."""
    return jnp.float32 if jnp.dtype(dtype).itemsize < 4 else dtype
