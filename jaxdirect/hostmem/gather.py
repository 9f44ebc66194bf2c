"""Rows of a host or device table, picked by index."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, ArrayLike, Int, Shaped

from jaxdirect import _compat, _ffi
from jaxdirect.hostmem import _checks
from jaxdirect.hostmem._workspace import order_workspace_bytes
from jaxdirect.hostmem.cached_table import CachedTable
from jaxdirect.hostmem.scatter_add import scatter_add

ORDERS = {"given": 0, "sorted": 1, "auto": 2}


@dataclasses.dataclass(frozen=True)
class _Options:
    order: int
    max_blocks: int
    fill_low: int  # the fill element's bytes, repeated to 16
    fill_high: int
    implementation: str

    def attributes(self) -> dict[str, int]:
        values = dataclasses.asdict(self)
        del values["implementation"]
        return values


def _results(platform: str, *operands: Any, order: int, **_: int) -> list:
    table, ids = operands[0], operands[-1]
    rows = jax.ShapeDtypeStruct((*ids.shape, *table.shape[1:]), table.dtype)
    sorts = platform == "cuda" and order != ORDERS["given"]
    workspace = order_workspace_bytes(math.prod(ids.shape)) if sorts else 0
    return [rows, jax.ShapeDtypeStruct((workspace,), jnp.uint8)]


def _reference(
    table: Array, ids: Array, *, fill_low: int, fill_high: int, **_: int
) -> tuple[Array]:
    if _compat.in_host_space(table):
        table = jax.device_put(table, jax.memory.Space.Device)
    pattern = np.array([fill_low, fill_high], np.int64).tobytes()
    fill = jnp.full((), np.frombuffer(pattern, table.dtype, count=1)[0], table.dtype)
    if table.shape[0] == 0:
        return (jnp.broadcast_to(fill, (*ids.shape, *table.shape[1:])),)
    valid = (ids >= 0) & (ids < table.shape[0])
    rows = jnp.take(table, jnp.where(valid, ids, 0), axis=0)
    return (jnp.where(jnp.expand_dims(valid, tuple(range(ids.ndim, rows.ndim))), rows, fill),)


def _reference_cached(
    table: Array, cached: Array, slots: Array, ids: Array, **attributes: int
) -> tuple[Array]:
    (rows,) = _reference(table, ids, **attributes)
    if table.shape[0] == 0 or cached.shape[0] == 0:
        return (rows,)
    valid = (ids >= 0) & (ids < table.shape[0])
    slot = jnp.where(valid, slots[jnp.where(valid, ids, 0)], -1)
    hit = (slot >= 0) & (slot < cached.shape[0])
    copies = jnp.take(cached, jnp.where(hit, slot, 0), axis=0)
    return (jnp.where(jnp.expand_dims(hit, tuple(range(ids.ndim, rows.ndim))), copies, rows),)


def _sharding_rule(table_rank: int, *ranks: int, **_: int) -> tuple[str, tuple[str, ...]]:
    row = [f"d{axis}" for axis in range(table_rank - 1)]
    batch = [f"b{axis}" for axis in range(ranks[-1])]
    # With a cache: its rows, and a slot for every row of the table.
    cache = [["m", *row], ["n"]] if len(ranks) > 1 else []
    operands = [["n", *row], *cache, batch]
    rule = f"{', '.join(' '.join(axes) for axes in operands)} -> {' '.join([*batch, *row])}"
    return rule, ("n", *(["m"] if cache else []), *row)


def _batch(op: Any, axis_size: int, batched: list[bool], *operands: Array) -> tuple[Array]:
    return op(*operands)


_op = _ffi.Op(
    name="gather",
    target="jaxdirect_hostmem_gather",
    results=_results,
    num_outputs=1,
    reference=_reference,
    sharding_rule=_sharding_rule,
    batch=_batch,
    whole=((0, "table"),),
)
_op_cached = dataclasses.replace(
    _op,
    target="jaxdirect_hostmem_gather_cached",
    reference=_reference_cached,
    whole=((0, "table.table"), (1, "table.rows"), (2, "table.slots")),
)


# `tables` is (table,), or (table, cached rows, slots).
@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _gather(tables: tuple[Array, ...], ids: Array, options: _Options) -> Array:
    op = _op if len(tables) == 1 else _op_cached
    (rows,) = op(*tables, ids, implementation=options.implementation, **options.attributes())
    return rows


def _gather_fwd(tables: Any, ids: Any, options: _Options) -> tuple[Any, Any]:
    table, *cache = tables
    if any(part.perturbed for part in cache) or (
        table.perturbed and (cache or _compat.in_host_space(table.value))
    ):
        raise TypeError(
            f"gather: a {'cached' if cache else 'unified'} table cannot be differentiated, got a "
            "gradient request for it; differentiate with respect to other arguments (argnums), "
            "wrap the table in jax.lax.stop_gradient, or keep a trained table on the device"
        )
    rows = _gather(tuple(part.value for part in tables), ids.value, options)
    # The residual is the table's type alone: its length, not its data.
    num_rows = table.value.shape[0] if table.perturbed else None
    return rows, (ids.value, num_rows, len(cache))


def _gather_bwd(options: _Options, residual: Any, cotangent: Any) -> tuple[Any, None]:
    ids, num_rows, num_cache = residual
    if num_rows is None or isinstance(cotangent, SymbolicZero):
        return (None,) * (1 + num_cache), None
    summed = scatter_add(cotangent, ids, num_rows, implementation=options.implementation)
    return (summed,), None


_gather.defvjp(_gather_fwd, _gather_bwd, symbolic_zeros=True)
_gather_jit = jax.jit(_gather, static_argnums=2)


def gather(
    table: Shaped[Array, "num_rows ..."] | CachedTable,
    indices: Int[ArrayLike, "*batch"],
    *,
    fill_value: complex = 0,
    order: str = "auto",
    max_blocks: int | None = None,
    implementation: str = "auto",
) -> Shaped[Array, ...]:
    """Picks rows of a table in host memory (or on the device) by index.

    On a GPU the kernel reads the rows of a unified table straight from pinned host
    memory, in ascending order where that pays, and writes them to their places; no
    copy of the table is made. Equal indices cost one read.

    Args:
        table: `[num_rows, *row]`, any dtype of whole bytes, from `unified` or on the device,
            or a host table with a cache on the device (`cache_rows`). Pass it as an argument
            of the function that you `jit`; under a mesh it is replicated, or row-sharded
            inside `jax.shard_map`.
        indices: `[*batch]`, integers. An index outside `[0, num_rows)`, so -1 too, yields
            a row of `fill_value`.
        fill_value: number, cast to the table's dtype.
        order: `"given"` reads rows as they come (PyTorch-Direct), `"sorted"` in ascending
            order, `"auto"` in ascending order when that pays; see `explain_gather`.
        max_blocks: bound on the thread blocks of the reading kernel, and so on the
            multiprocessors it takes from work beside it; None fills the GPU. 64 blocks fill
            a PCIe 5 link.
        implementation: `"auto"`, `"native"` or `"reference"` (plain JAX, which moves a
            host table to the device first).

    Returns:
        `[*batch, *row]` in the table's dtype (64-bit types keep their width), on the device.

    Raises:
        TypeError: indices are no integers, the table is no `jax.Array`, its dtype has no
            whole bytes, or a unified or cached table's gradient is asked for.
        ValueError: the table is a scalar, freed, batched by `vmap`, sharded under plain
            `jit`, or a unified table that `jit` would copy into the program.

    The gradient with respect to a device table is summed in a fixed order.

    Source: PyTorch-Direct, arXiv:2101.07956, section 4; ordering is this package's own.

    Example:
        >>> import numpy as np, jaxdirect
        >>> table = jaxdirect.unified(np.arange(12, dtype=np.float32).reshape(4, 3))
        >>> jaxdirect.gather(table, np.array([2, -1]))
        Array([[6., 7., 8.],
               [0., 0., 0.]], dtype=float32)
    """
    if isinstance(table, CachedTable):
        table.check("gather")
        tables = (table.table, table.rows, table.slots)
    else:
        _checks.check_table("gather", table)
        tables = (table,)
    with _compat.native_width(table.dtype, getattr(indices, "dtype", None)):
        ids = _checks.index_array("gather", "indices", indices, table.shape[0])
        options = _options(table.dtype, order, max_blocks, fill_value, implementation)
        *tables, ids = _compat.match_varying(*tables, ids)
        return _gather_jit(tuple(tables), ids, options)


def _options(
    dtype: Any, order: str, max_blocks: int | None, fill_value: complex, implementation: str
) -> _Options:
    if order not in ORDERS:
        raise ValueError(f"gather: order must be one of {', '.join(ORDERS)}, got {order!r}")
    if max_blocks is not None and max_blocks < 1:
        raise ValueError(f"gather: max_blocks must be None or at least 1, got {max_blocks}")
    if isinstance(fill_value, Tracer) or np.ndim(fill_value) != 0:
        raise TypeError(f"gather: fill_value must be a plain number, got {fill_value!r}")
    element = np.asarray(fill_value).astype(dtype).tobytes()
    low, high = np.frombuffer(element * (16 // len(element)), np.int64)
    return _Options(ORDERS[order], max_blocks or 0, int(low), int(high), implementation)
