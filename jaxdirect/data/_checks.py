"""What a relational graph checks its arrays with; every error names the argument and the place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

LIMIT = 2**31 - 1
SPLITS = ("train", "valid", "test")
_WHO = "RelationalGraph"


def size(name: str, value: Any) -> int:
    """`value` as an int that int32 ids can count."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or not 0 <= value <= LIMIT:
        raise ValueError(f"{_WHO}: {name} must be an integer in [0, 2^31), got {value!r}")
    return int(value)


def integers(
    name: str,
    value: Any,
    bound: int,
    *,
    least: int = 0,
    per: tuple[str, int] | None = None,
    remedy: str,
) -> Int[np.ndarray, " n"]:
    """`value` as an int32 vector with values in [least, bound), one `per` (what, how many)."""
    array = np.asarray(value)
    if array.ndim != 1 or array.size > LIMIT:
        raise ValueError(
            f"{_WHO}: {name} must be a vector of fewer than 2^31 entries, got shape {array.shape}"
        )
    if per is not None and array.size != per[1]:
        raise ValueError(
            f"{_WHO}: {name} must have one entry per {per[0]} ({per[1]}), got {array.size}"
        )
    if array.size == 0:
        return np.zeros(0, np.int32)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(
            f"{_WHO}: {name} must be integers, got {array.dtype}; cast with .astype('int32')"
        )
    if array.min() < least or array.max() >= bound:
        at = int(np.argmax((array < least) | (array >= bound)))
        raise ValueError(
            f"{_WHO}: {name} must hold values in [{least}, {bound}), got {array[at]} at position "
            f"{at}; {remedy}"
        )
    return array.astype(np.int32, copy=False)


def features(value: Any, num_nodes: int) -> Float[np.ndarray, "featured dim"]:
    """`value` as a table of floats with at most one row per node."""
    table = np.asanyarray(value)
    if table.ndim != 2 or table.shape[0] > num_nodes:
        raise ValueError(
            f"{_WHO}: features must be [num_featured <= {num_nodes}, feature_dim], "
            f"got shape {table.shape}"
        )
    if not jnp.issubdtype(table.dtype, np.floating):
        raise TypeError(
            f"{_WHO}: features must be floats, got {table.dtype}; cast with .astype('float32')"
        )
    return table


def splits(parts: tuple[Any, ...], labels: Int[np.ndarray, " nodes"]) -> tuple[np.ndarray, ...]:
    """The ids of train, valid and test: labelled nodes, none of them twice."""
    owner = np.full(labels.size, -1, np.int8)
    checked = []
    for part, (name, value) in enumerate(zip(SPLITS, parts, strict=True)):
        ids = integers(name, value, labels.size, remedy="give node ids")
        _refuse(name, ids, labels[ids] < 0, "is unlabelled (-1); leave it out")
        _refuse(name, ids, owner[ids] >= 0, "is in another split too; keep them disjoint")
        owner[ids] = part
        if np.count_nonzero(owner == part) != ids.size:
            raise ValueError(f"{_WHO}: {name} names a node twice; use numpy.unique")
        checked.append(ids)
    return tuple(checked)


def _refuse(name: str, ids: np.ndarray, bad: np.ndarray, why: str) -> None:
    if bad.any():
        at = int(np.argmax(bad))
        raise ValueError(f"{_WHO}: {name}: node {ids[at]} at position {at} {why}")


def option(who: str, name: str, value: Any, least: int) -> int:
    """`value` as an int of at least `least`."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ValueError(f"{who}: {name} must be an integer >= {least}, got {value!r}")
    return int(value)
