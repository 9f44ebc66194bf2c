"""Copies of a host table's most wanted rows on the device."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Shaped

from jaxdirect.hostmem import _checks
from jaxdirect.hostmem.cached_table import CachedTable
from jaxdirect.hostmem.gather import gather


def cache_rows(table: Shaped[Array, "num_rows ..."], indices: Any) -> CachedTable:
    """Copies some rows of a host table to the device, where `gather` then finds them.

    Real graphs ask for few nodes often: a fifth of the rows, those of the nodes with the
    most neighbours, can serve four reads in five, and those do not cross the link.
    Rows are copied now: later writes to the table do not reach the cache.

    Args:
        table: `[num_rows, *row]` from `unified`, on one device or replicated over a mesh.
        indices: `[n]` concrete integers, which rows; repeated ones count once. They need
            `n` rows and 4 bytes for each row of the table in device memory.

    Returns:
        The table with its cache, which `gather` takes in place of the table.

    Raises:
        TypeError: the table is no `jax.Array`, or indices are traced or no integers.
        ValueError: indices are not of rank 1 or lead outside the table, or the table is
            freed, traced or split over a mesh.

    Source: a static cache of hot rows, as in Data Tiering (arXiv:2111.05894).

    Example:
        >>> import numpy as np, jaxdirect
        >>> table = jaxdirect.unified(np.arange(8, dtype=np.float32).reshape(4, 2))
        >>> cached = jaxdirect.cache_rows(table, [3, 1])
        >>> jaxdirect.gather(cached, np.array([1, 2]))
        Array([[2., 3.],
               [4., 5.]], dtype=float32)
    """
    _checks.check_table("cache_rows", table)
    if isinstance(table, Tracer) or isinstance(indices, Tracer):
        raise TypeError(
            "cache_rows: table and indices must be concrete arrays, got traced ones; make the "
            "cache outside of jit and pass it as an argument"
        )
    if not table.sharding.is_fully_replicated:
        raise ValueError(
            f"cache_rows: table must be on one device or replicated, got {table.sharding}"
        )
    ids = np.asarray(indices)
    if ids.size == 0:
        ids = ids.astype(np.int64)
    if ids.ndim != 1:
        raise ValueError(f"cache_rows: indices must have rank 1, got shape {ids.shape}")
    if not np.issubdtype(ids.dtype, np.integer):
        raise TypeError(
            f"cache_rows: indices must be integers, got {ids.dtype}; for a mask pass "
            "np.flatnonzero(mask)"
        )
    num_rows = table.shape[0]
    ids = np.unique(ids)  # ascending, which the copy likes
    if ids.size and not (ids[0] >= 0 and ids[-1] < num_rows):
        raise ValueError(
            f"cache_rows: indices must be in [0, {num_rows}), got {ids[0]} to {ids[-1]}"
        )
    slots = np.full(num_rows, -1, np.int32)
    slots[ids] = np.arange(ids.size, dtype=np.int32)
    return CachedTable(table, gather(table, ids), _beside(table, slots))


def _beside(table: Array, array: np.ndarray) -> Array:
    """`array` in device memory wherever the table is, replicated like it."""
    sharding = table.sharding
    if isinstance(sharding, jax.sharding.NamedSharding):
        spec = jax.sharding.PartitionSpec()
        return jax.device_put(array, jax.sharding.NamedSharding(sharding.mesh, spec))
    (device,) = table.devices()
    return jax.device_put(array, device)
