"""What the hostmem operations ask of their arguments, with messages for people."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxdirect import _compat


def check_table(op: str, table: Any, name: str = "table") -> None:
    """Refuses what is no table, with the remedy."""
    if not isinstance(table, jax.Array):
        raise TypeError(
            f"{op}: {name} must be a jax.Array, got {type(table).__name__}; "
            "make it one with jaxdirect.unified(table)"
        )
    if table.ndim == 0:
        raise ValueError(f"{op}: {name} must have at least one axis, got a scalar")
    check_whole_bytes(op, table.dtype)
    check_reachable(op, name, table)


def describe(parts: Any) -> str:
    """`Class(name=dtype[shape], ...)` of a dataclass of arrays; values may be a huge table."""
    described = []
    for field in dataclasses.fields(parts):
        value = getattr(parts, field.name)
        is_array = hasattr(value, "shape") and hasattr(value, "dtype")
        text = f"{value.dtype}{list(value.shape)}" if is_array else repr(value)
        described.append(f"{field.name}={text}")
    return f"{type(parts).__name__}({', '.join(described)})"


def check_whole_bytes(op: str, dtype: Any) -> None:
    """Refuses sub-byte and extended dtypes."""
    if jnp.issubdtype(dtype, jax.dtypes.extended):
        raise TypeError(f"{op}: dtype {dtype} has no plain memory layout; use jax.random.key_data")
    if jnp.dtype(dtype).name.lstrip("u") in ("int1", "int2", "int4") or "float4" in str(dtype):
        raise TypeError(f"{op}: dtype must have whole bytes, got {dtype}; widen it to 8 bits")


def check_reachable(op: str, name: str, array: jax.Array) -> None:
    """Refuses a host array that is freed, or that a surrounding `jit` would copy."""
    if isinstance(array, Tracer):
        return
    if array.is_deleted():
        raise ValueError(f"{op}: {name} was freed (deleted or donated); create it again")
    if _compat.in_host_space(array) and _under_jit():
        raise ValueError(
            f"{op}: {name} is a unified array that the traced function closes over, so that "
            "its data would be copied into the program; pass it as an argument of the "
            "function instead"
        )


def _under_jit() -> bool:
    # Under jit, scan and the like every operation is staged, even one on constants.
    return isinstance(jax.lax.add(np.int32(0), np.int32(0)), Tracer)


def index_array(op: str, name: str, ids: Any, num_rows: int) -> jax.Array:
    """`ids` as an int32 or int64 array on the device; out-of-range values stay out of range."""
    if not hasattr(ids, "dtype"):
        traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(ids))
        ids = jnp.asarray(ids) if traced else np.asarray(ids)
        if ids.size == 0:
            ids = ids.astype(np.int32)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(
            f"{op}: {name} must be an integer array, got {ids.dtype}; "
            f"cast with {name}.astype('int32')"
        )
    if isinstance(ids, jax.Array) and _compat.in_host_space(ids):
        ids = jax.device_put(ids, jax.memory.Space.Device)
    wide = num_rows > np.iinfo(np.int32).max
    target = np.int64 if wide or ids.dtype == np.int64 else np.int32
    if not wide and isinstance(ids, np.ndarray) and ids.dtype.itemsize == 8:
        # Clamping keeps an id outside the table outside it, where a cast would wrap.
        ids, target = np.clip(ids, -1, num_rows), np.int32
    elif ids.dtype in (np.uint32, np.uint64):
        ids = jnp.minimum(ids, np.array(np.iinfo(target).max, ids.dtype))
    return jnp.asarray(ids, target)
