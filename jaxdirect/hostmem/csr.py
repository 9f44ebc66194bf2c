"""A graph in compressed sparse rows, on the host or on the device."""

from __future__ import annotations

import ctypes
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int

from jaxdirect import _compat
from jaxdirect.hostmem import _checks

_CHUNK = 1 << 24  # elements that `validate` looks at together


@dataclasses.dataclass(frozen=True, eq=False, init=False)
class CSRGraph:
    """A graph whose row v lists the nodes that node v draws from.

    A pytree: pass it to `jit` as an argument. A host graph (arrays from `unified`) is
    read where it lies by `sample_neighbors`.

    Args:
        indptr: `[num_nodes + 1]`, int32 or int64 (int64 from 2^31 edges on), from 0 up to
            `num_edges`: row v is `indices[indptr[v]:indptr[v + 1]]`. A NumPy array (copied
            to the device; int64 becomes int32 with x64 off if every value fits, and stays
            int64 otherwise), a device array or a unified one.
        indices: `[num_edges]`, int32 or int64 node ids, likewise.

    Raises:
        TypeError: an argument is no array or not of int32 or int64.
        ValueError: an argument is not of rank 1, or indptr does not run from 0 to
            `num_edges`. `validate` checks all values, construction only these.

    Example:
        >>> import numpy as np, jaxdirect
        >>> graph = jaxdirect.CSRGraph(np.array([0, 2, 3]), np.array([0, 1, 0]))
        >>> graph.num_nodes, graph.num_edges
        (2, 3)
    """

    indptr: Int[Array, " rows_plus_one"]
    indices: Int[Array, " edges"]

    def __init__(
        self,
        indptr: Int[Array | np.ndarray, " rows_plus_one"],
        indices: Int[Array | np.ndarray, " edges"],
    ) -> None:
        for name, value in (("indptr", indptr), ("indices", indices)):
            _check_type(name, value)
            array = _to_device(value) if isinstance(value, np.ndarray) else value
            object.__setattr__(self, name, array)
        self.check()
        _check_ends(self.indptr, self.num_edges)

    def __repr__(self) -> str:
        return _checks.describe(self)

    @property
    def num_nodes(self) -> int:
        """Number of rows."""
        return self.indptr.shape[0] - 1

    @property
    def num_edges(self) -> int:
        """Number of entries in all rows."""
        return self.indices.shape[0]

    def check(self) -> None:
        """Raises what construction raises for wrong types, dtypes and shapes."""
        for name in ("indptr", "indices"):
            value = getattr(self, name)
            if not isinstance(value, jax.Array):
                raise TypeError(
                    f"CSRGraph: {name} must be a NumPy or JAX array, got {type(value).__name__}"
                )
            if value.ndim != 1:
                raise ValueError(f"CSRGraph: {name} must have rank 1, got shape {value.shape}")
        if self.indptr.shape[0] < 1:
            raise ValueError(
                "CSRGraph: indptr must have num_nodes + 1 elements, got none; "
                "a graph without nodes has indptr [0]"
            )
        if self.num_edges > np.iinfo(np.int32).max and self.indptr.dtype == np.int32:
            raise ValueError(
                f"CSRGraph: indptr must be int64 for {self.num_edges} edges, got int32; "
                "cast with indptr.astype('int64')"
            )

    def validate(self) -> CSRGraph:
        """Checks every value of both arrays, on the host.

        Returns:
            The graph itself.

        Raises:
            TypeError: called inside `jit`.
            ValueError: indptr decreases or does not run from 0 to `num_edges`, or indices
                holds no node; the message names the first bad position.

        Example:
            >>> import numpy as np, jaxdirect
            >>> jaxdirect.CSRGraph(np.array([0, 1]), np.array([5])).validate()
            Traceback (most recent call last):
            ValueError: CSRGraph: indices must hold nodes in [0, 1), got 5 at position 0
        """
        if isinstance(self.indptr, Tracer) or isinstance(self.indices, Tracer):
            raise TypeError("CSRGraph: validate needs values, got a tracer; call it outside jit")
        indptr, indices = _host_view(self.indptr), _host_view(self.indices)
        _raise_ends(indptr[0], indptr[-1], self.num_edges)
        for start in range(0, self.num_nodes, _CHUNK):
            part = indptr[start : start + _CHUNK + 1]
            bad = np.flatnonzero(part[1:] < part[:-1])
            if bad.size:
                at = start + int(bad[0]) + 1
                raise ValueError(
                    f"CSRGraph: indptr must never decrease, got {indptr[at]} after "
                    f"{indptr[at - 1]} at position {at}"
                )
        for start in range(0, self.num_edges, _CHUNK):
            part = indices[start : start + _CHUNK]
            bad = np.flatnonzero((part < 0) | (part >= self.num_nodes))
            if bad.size:
                at = start + int(bad[0])
                raise ValueError(
                    f"CSRGraph: indices must hold nodes in [0, {self.num_nodes}), got "
                    f"{indices[at]} at position {at}"
                )
        return self


def _flatten(graph: CSRGraph) -> tuple[tuple, None]:
    keys = map(jax.tree_util.GetAttrKey, ("indptr", "indices"))
    return tuple(zip(keys, (graph.indptr, graph.indices), strict=True)), None


def _unflatten(_: None, children: Any) -> CSRGraph:
    # Transformations put placeholders of their own in the leaves: nothing is checked.
    graph = object.__new__(CSRGraph)
    for name, child in zip(("indptr", "indices"), children, strict=True):
        object.__setattr__(graph, name, child)
    return graph


jax.tree_util.register_pytree_with_keys(CSRGraph, _flatten, _unflatten)


def _check_type(name: str, value: Any) -> None:
    if not isinstance(value, (np.ndarray, jax.Array)):
        raise TypeError(
            f"CSRGraph: {name} must be a NumPy or JAX array, got {type(value).__name__}; "
            "convert it with numpy.asarray"
        )
    if value.dtype not in (np.int32, np.int64):
        raise TypeError(
            f"CSRGraph: {name} must be int32 or int64, got {value.dtype}; "
            f"cast with {name}.astype('int64')"
        )


def _to_device(array: np.ndarray) -> Array:
    if array.dtype == np.int64 and jax.dtypes.canonicalize_dtype(np.int64) == np.int32:
        bounds = np.iinfo(np.int32)
        if array.size == 0 or (array.min() >= bounds.min and array.max() <= bounds.max):
            array = array.astype(np.int32)
    with _compat.native_width(array.dtype):
        return jnp.asarray(array)


def _check_ends(indptr: Array, num_edges: int) -> None:
    if isinstance(indptr, Tracer) or indptr.is_deleted():
        return
    if not indptr.is_fully_replicated:  # each shard is an indptr of its own
        return
    on_host = _compat.in_host_space(indptr) or indptr.devices().pop().platform == "cpu"
    if on_host:
        ends = _host_view(indptr)[[0, -1]]
    else:
        with jax.ensure_compile_time_eval(), _compat.native_width(indptr.dtype):
            ends = np.asarray(indptr[np.array([0, -1], np.int32)])
    _raise_ends(ends[0], ends[1], num_edges)


def _raise_ends(first: Any, last: Any, num_edges: int) -> None:
    if first != 0:
        raise ValueError(f"CSRGraph: indptr must start with 0, got {first}")
    if last != num_edges:
        raise ValueError(
            f"CSRGraph: indptr must end with the number of indices, {num_edges}, got {last}"
        )


def _host_view(array: Array) -> np.ndarray:
    """The array in NumPy; what lies in host memory is not copied."""
    if not _compat.in_host_space(array) or array.size == 0:
        return np.asarray(array)
    shard = jax.block_until_ready(array.addressable_shards[0].data)
    if shard.devices().pop().platform == "cpu":
        return np.asarray(shard)
    pages = (ctypes.c_char * shard.nbytes).from_address(shard.unsafe_buffer_pointer())
    return np.frombuffer(pages, shard.dtype)
