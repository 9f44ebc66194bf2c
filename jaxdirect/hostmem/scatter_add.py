"""Rows summed into a table in a fixed order: the transpose of `gather`."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array

from jaxdirect import _compat, _ffi
from jaxdirect.hostmem._workspace import scatter_workspace_bytes


def _results(platform: str, rows: Any, ids: Any, *, num_rows: int) -> list:
    row = rows.shape[len(ids.shape) :]
    table = jax.ShapeDtypeStruct((num_rows, *row), rows.dtype)
    needed = scatter_workspace_bytes(math.prod(ids.shape), math.prod(row))
    workspace = needed if platform == "cuda" else 0
    return [table, jax.ShapeDtypeStruct((workspace,), jnp.uint8)]


def _accumulator(dtype: Any) -> Any:
    # Sums of short floats are kept in float32 and rounded once.
    return jnp.float32 if jnp.dtype(dtype).itemsize < 4 else dtype


def _reference(rows: Array, ids: Array, *, num_rows: int) -> tuple[Array]:
    table = jnp.zeros((num_rows, *rows.shape[ids.ndim :]), _accumulator(rows.dtype))
    # Negative numbers count from the end in JAX; here they are no rows.
    ids = jnp.where(ids < 0, num_rows, ids)
    return (table.at[ids].add(rows.astype(table.dtype), mode="drop").astype(rows.dtype),)


def _sharding_rule(rows_rank: int, ids_rank: int, *, num_rows: int) -> tuple:
    row = [f"d{axis}" for axis in range(rows_rank - ids_rank)]
    batch = [f"b{axis}" for axis in range(ids_rank)]
    rule = f"{' '.join([*batch, *row])}, {' '.join(batch)} -> {' '.join(['n', *row])}"
    return rule, (*batch, "n")


def _batch(op: Any, axis_size: int, batched: list[bool], rows: Array, ids: Array) -> tuple[Array]:
    rows, ids = (
        x if flag else jnp.broadcast_to(x, (axis_size, *x.shape))
        for x, flag in zip((rows, ids), batched, strict=True)
    )
    return (jax.lax.map(lambda element: op(*element)[0], (rows, ids)),)


_op = _ffi.Op(
    name="scatter_add",
    target="jaxdirect_hostmem_scatter_add",
    results=_results,
    num_outputs=1,
    reference=_reference,
    sharding_rule=_sharding_rule,
    batch=_batch,
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _scatter_add(rows: Array, ids: Array, num_rows: int, implementation: str) -> Array:
    (table,) = _op(rows, ids, implementation=implementation, num_rows=num_rows)
    return table


def _fwd(rows: Any, ids: Any, num_rows: int, implementation: str) -> tuple[Array, Array]:
    return _scatter_add(rows.value, ids.value, num_rows, implementation), ids.value


def _bwd(num_rows: int, implementation: str, ids: Array, cotangent: Any) -> tuple[Any, None]:
    if isinstance(cotangent, SymbolicZero):
        return None, None
    from jaxdirect.hostmem.gather import gather  # each is the other's transpose

    return gather(cotangent, ids, implementation=implementation), None


_scatter_add.defvjp(_fwd, _bwd, symbolic_zeros=True)


def scatter_add(rows: Array, ids: Array, num_rows: int, *, implementation: str = "auto") -> Array:
    """Sums `rows` `[*batch, *row]` into a zero table `[num_rows, *row]` at `ids` `[*batch]`.

    Rows with equal ids are summed in the order in which they come, so that the same
    inputs give the same bits; float16 and shorter are summed in float32. Ids outside
    `[0, num_rows)` are dropped.
    """
    return _scatter_add(*_compat.match_varying(rows, ids), num_rows, implementation)
