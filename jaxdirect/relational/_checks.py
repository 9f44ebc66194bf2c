"""What the relational operations ask of their arguments, with messages for people."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from jaxdirect.relational.graph import RelGraph

# As jax.lax.Precision; the native kernels know two.
_PRECISIONS = {
    "default": 0,
    "fastest": 0,
    "high": 0,
    "highest": 1,
    "float32": 1,
    "tensorfloat32": 0,
}


def graph(op: str, g: Any) -> None:
    """Refuses what is no `RelGraph`."""
    if not isinstance(g, RelGraph):
        raise TypeError(
            f"{op}: the graph must be a RelGraph, got {type(g).__name__}; "
            "build it with jaxdirect.relational.RelGraph.from_edges"
        )


def has_attention(op: str, g: RelGraph) -> None:
    """Refuses a graph whose plan was built without its attention part."""
    if g.attention is None:
        raise ValueError(f"{op}: the graph has no attention part; build it with attention=True")


def floating(op: str, name: str, value: Any) -> Array:
    """`value` as an array of floating-point numbers."""
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{op}: {name} must be a floating-point array, got {array.dtype}; "
            f"cast with {name}.astype('float32')"
        )
    return array


def shape(op: str, name: str, array: Array, *expected: int | str) -> None:
    """Raises unless `array` has the expected shape; a string stands for any extent."""
    fits = array.ndim == len(expected) and all(
        isinstance(want, str) or want == got
        for want, got in zip(expected, array.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, expected))
        raise ValueError(f"{op}: {name} must be [{wanted}], got shape {list(array.shape)}")


def same_dtype(op: str, **arrays: Array | None) -> None:
    """Raises unless all arrays have one dtype."""
    given = {name: array.dtype for name, array in arrays.items() if array is not None}
    if len(set(given.values())) > 1:
        listed = ", ".join(f"{name} {dtype}" for name, dtype in given.items())
        raise TypeError(f"{op}: arguments must have one dtype, got {listed}; cast with astype")


def nodes(op: str, name: str, x: Any, num_nodes: int) -> Array:
    """Node features `[num_nodes, d]`."""
    x = floating(op, name, x)
    shape(op, name, x, num_nodes, "d")
    return x


def edge_values(op: str, name: str, values: Any, num_edges: int) -> Array:
    """Edge values `[num_edges]` or `[num_edges, heads]`."""
    values = floating(op, name, values)
    if values.ndim not in (1, 2) or values.shape[0] != num_edges:
        raise ValueError(
            f"{op}: {name} must be [{num_edges}] or [{num_edges}, heads], a row per edge in the "
            f"order in which the edges were given, got shape {list(values.shape)}"
        )
    return values


def types(op: str, value: Any, num_rows: int, num_types: int) -> Array:
    """Row types `[num_rows]`; concrete ones must be in `[0, num_types)`."""
    if not isinstance(value, Tracer):
        value = np.asarray(value)
        if value.size == 0:
            value = value.astype(np.int32)
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(
            f"{op}: types must be an integer array, got {value.dtype}; "
            "cast with types.astype('int32')"
        )
    shape(op, "types", value, num_rows)
    if isinstance(value, np.ndarray) and value.size:
        low, high = value.min(), value.max()
        if low < 0 or high >= num_types:
            raise ValueError(
                f"{op}: types must be in [0, {num_types}), a weight for each, got values from "
                f"{low} to {high}"
            )
    return jnp.asarray(value, jnp.int32)


def precision(op: str, value: Any) -> int:
    """0: the device's fast products for float32 (TF32 on NVIDIA GPUs), 1: full float32."""
    if value is None:
        value = getattr(jax.config, "jax_default_matmul_precision", None) or "default"
    if isinstance(value, jax.lax.Precision):
        value = value.name
    if isinstance(value, str) and value.lower() in _PRECISIONS:
        return _PRECISIONS[value.lower()]
    raise ValueError(
        f"{op}: precision must be None, a jax.lax.Precision or one of "
        f"{', '.join(_PRECISIONS)}, got {value!r}"
    )


def implementation(op: str, value: Any) -> str:
    """Raises unless `value` names an implementation."""
    if value not in ("auto", "native", "reference"):
        raise ValueError(
            f"{op}: implementation must be one of auto, native, reference, got {value!r}"
        )
    return value
