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
        One sentence with the sizes and the choice. Of a short list the GPU itself
        estimates how many indices are read from the host, and neither pads nor cached.

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
    num_rows = table.shape[0]
    row_bytes = math.prod(table.shape[1:]) * np.dtype(table.dtype).itemsize
    method, low, high, min_reads = native.plan_order(ORDERS[order], num_rows, row_bytes, count)
    choice = "read as given"
    if method == "buckets":
        choice = f"grouped by ranges of {2**low} rows"
        if min_reads:
            choice += f" if about {min_reads} of them or more are read from the host"
    elif method == "radix":
        choice = f"sorted by bits {low} to {high - 1} of {high} ({-(-(high - low) // 8)} passes)"
    size = num_rows * row_bytes / 2**30
    return (
        f"gather of {count} rows of {row_bytes} bytes from a host table of {size:.1f} GiB: {choice}"
    )
