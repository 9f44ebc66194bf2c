"""A host table together with some of its rows on the device."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Shaped

from jaxdirect.hostmem import _checks


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class CachedTable:
    """A table, and copies of its most wanted rows on the device; made by `cache_rows`.

    A pytree: pass it to `jit` as an argument, and to `gather` like the table itself.

    Args:
        table: `[num_rows, *row]`, as a rule from `unified`.
        rows: `[num_cached, *row]` on the device, of the table's dtype.
        slots: `[num_rows]`, int32 on the device: each row's place in `rows`, or -1.

    Example:
        >>> import numpy as np, jaxdirect
        >>> table = jaxdirect.unified(np.zeros((4, 2), np.float32))
        >>> cached = jaxdirect.cache_rows(table, [1, 2])
        >>> cached.shape, cached.rows.shape
        ((4, 2), (2, 2))
    """

    table: Shaped[Array, "num_rows ..."]
    rows: Shaped[Array, "num_cached ..."]
    slots: Int[Array, " num_rows"]

    def __repr__(self) -> str:
        return _checks.describe(self)

    @property
    def shape(self) -> tuple[int, ...]:
        """The table's shape."""
        return self.table.shape

    @property
    def dtype(self) -> Any:
        """The table's dtype."""
        return self.table.dtype

    def hit_rate(self, indices: Int[ArrayLike, "*batch"]) -> Float[Array, ""]:
        """The share of the valid indices whose rows are cached, float32; 0 without any.

        Example:
            >>> import numpy as np, jaxdirect
            >>> table = jaxdirect.unified(np.zeros((4, 2), np.float32))
            >>> float(jaxdirect.cache_rows(table, [1, 2]).hit_rate([1, 3, -1]))
            0.5
        """
        if self.shape[0] == 0:
            return jnp.zeros((), jnp.float32)
        ids = _checks.index_array("hit_rate", "indices", indices, self.shape[0])
        valid = (ids >= 0) & (ids < self.shape[0])
        hits = valid & (self.slots[jnp.where(valid, ids, 0)] >= 0)
        return jnp.sum(hits) / jnp.maximum(jnp.sum(valid), 1).astype(jnp.float32)

    def check(self, op: str) -> None:
        """Raises for parts that do not belong together."""
        for name in ("table", "rows", "slots"):
            _checks.check_table(op, getattr(self, name), name=f"table.{name}")
        if self.rows.shape[1:] != self.shape[1:] or self.rows.dtype != self.dtype:
            raise ValueError(
                f"{op}: table.rows must hold rows of the table, {self.dtype}{self.shape[1:]}, "
                f"got {self.rows.dtype}{self.rows.shape[1:]}; make the cache with cache_rows"
            )
        if self.slots.shape != self.shape[:1] or self.slots.dtype != jnp.int32:
            raise ValueError(
                f"{op}: table.slots must be int32[{self.shape[0]}], got "
                f"{self.slots.dtype}{list(self.slots.shape)}; make the cache with cache_rows"
            )
