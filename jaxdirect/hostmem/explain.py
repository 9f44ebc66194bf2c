"""What `gather` would do, in a sentence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxdirect import _ffi
from jaxdirect.hostmem.gather import ORDERS


def explain_gather(table: Any, count: int, *, order: str = "auto") -> str:
    """Says in which order a GPU would read `count` random rows of a unified `table`.

    Args:
        table: `[num_rows, *row]`, an array or a `jax.ShapeDtypeStruct`; taken to be in
            pinned host memory.
        count: number of indices.
        order: as `gather` takes it.

    Returns:
        One sentence with the sizes and the choice.

    Raises:
        ValueError: order is none of `gather`'s.
        RuntimeError: the native code is not built.

    Example:
        >>> import jax, jaxdirect
        >>> table = jax.ShapeDtypeStruct((2**27, 32), "float32")
        >>> jaxdirect.explain_gather(table, 1000)
        'gather of 1000 rows of 128 bytes from a host table of 16.0 GiB: read as given'
    """
    if order not in ORDERS:
        raise ValueError(f"gather: order must be one of {', '.join(ORDERS)}, got {order!r}")
    native = _ffi.require("cpu", "explain_gather")
    row_bytes = math.prod(table.shape[1:]) * np.dtype(table.dtype).itemsize
    is_sorted, low, high = native.plan_order(ORDERS[order], table.shape[0], row_bytes, count)
    choice = "read as given"
    if is_sorted:
        choice = f"sorted by bits {low} to {high - 1} of {high} ({-(-(high - low) // 8)} passes)"
    size = table.shape[0] * row_bytes / 2**30
    return (
        f"gather of {count} rows of {row_bytes} bytes from a host table of {size:.1f} GiB: {choice}"
    )
