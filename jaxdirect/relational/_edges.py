"""What `RelGraph.from_edges` asks of its arguments, with messages for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.core import Tracer
from jaxtyping import Int

LIMIT = 2**31 - 1
_UNNAMED = 1 << 20  # more relations or types than this are a mistake, unless their number is given
COMPACTIONS = ("none", "src", "min")  # their numbers in ffi/relational/plan.h
_WHO = "RelGraph.from_edges"


@dataclasses.dataclass(frozen=True)
class Edges:
    """Checked edges, in int32, and the sizes of their graph (padded, where `pad_edges` >= 0)."""

    src: Int[np.ndarray, " edges"]
    dst: Int[np.ndarray, " edges"]
    etype: Int[np.ndarray, " edges"]
    ntype: Int[np.ndarray, " nodes"] | None
    num_nodes: int
    num_relations: int
    num_types: int
    pad_edges: int


def check(
    src: Any,
    dst: Any,
    etype: Any,
    num_nodes: Any,
    num_relations: Any,
    ntype: Any,
    num_types: Any,
    compaction: Any,
    pad_to: Mapping[str, int] | None,
) -> Edges:
    """Everything that can be wrong with a graph, before any work."""
    num_nodes = _size("num_nodes", num_nodes)
    if compaction not in COMPACTIONS:
        raise ValueError(
            f"{_WHO}: compaction must be one of {', '.join(COMPACTIONS)}, got {compaction!r}"
        )
    room = None if pad_to is None else _room(pad_to)
    _check_needed(room, num_relations, ntype, num_types)
    vectors = {"src": _vector("src", src), "dst": _vector("dst", dst)}
    vectors["etype"] = _vector("etype", etype)
    num_edges = vectors["src"].size
    for name, vector in vectors.items():
        if vector.size != num_edges:
            raise ValueError(
                f"{_WHO}: {name} must have one entry per edge, as src has ({num_edges}), "
                f"got {vector.size}"
            )
    ends = {name: _bounded(name, vectors[name], num_nodes, "num_nodes") for name in ("src", "dst")}
    relations, num_relations = _numbered("etype", vectors["etype"], num_relations, "num_relations")
    types = None
    if ntype is None:
        num_types = 0
    else:
        types = _vector("ntype", ntype)
        if types.size != num_nodes:
            raise ValueError(
                f"{_WHO}: ntype must have one entry per node, num_nodes = {num_nodes}, "
                f"got {types.size}"
            )
        types, num_types = _numbered("ntype", types, num_types, "num_types")
    edges = Edges(
        **ends,
        etype=relations,
        ntype=types,
        num_nodes=num_nodes,
        num_relations=num_relations,
        num_types=num_types,
        pad_edges=-1,
    )
    return edges if room is None else _pad(edges, room)


def _pad(edges: Edges, room: dict[str, int]) -> Edges:
    for name, have in (("num_nodes", edges.num_nodes), ("num_edges", edges.src.size)):
        if have > room[name]:
            raise ValueError(
                f"{_WHO}: pad_to[{name!r}] must be at least the graph's {have}, "
                f"got {room[name]}; pad to a larger size"
            )
    types = edges.ntype
    if types is not None:
        types = np.pad(types, (0, room["num_nodes"] - edges.num_nodes))
    return dataclasses.replace(
        edges, ntype=types, num_nodes=room["num_nodes"], pad_edges=room["num_edges"]
    )


def _size(name: str, value: Any) -> int:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or not 0 <= value <= LIMIT:
        raise ValueError(f"{_WHO}: {name} must be an integer in [0, 2^31), got {value!r}")
    return int(value)


def _room(pad_to: Any) -> dict[str, int]:
    names = {"num_nodes", "num_edges"}
    if not isinstance(pad_to, Mapping) or set(pad_to) != names:
        raise ValueError(
            f"{_WHO}: pad_to must be {{'num_nodes': n, 'num_edges': m}}, got {pad_to!r}"
        )
    return {name: _size(f"pad_to[{name!r}]", pad_to[name]) for name in names}


def _check_needed(room: Any, num_relations: Any, ntype: Any, num_types: Any) -> None:
    if ntype is None and num_types is not None:
        raise ValueError(
            f"{_WHO}: num_types must be None without ntype, got {num_types!r}; "
            "pass the node types as ntype"
        )
    if room is None:
        return
    for name, value, needed in (
        ("num_relations", num_relations, True),
        ("num_types", num_types, ntype is not None),
    ):
        if needed and value is None:
            raise ValueError(
                f"{_WHO}: {name} must be given with pad_to, got None; padded graphs share a "
                "program only if they agree on it"
            )


def _vector(name: str, value: Any) -> np.ndarray:
    """`value` as a vector of any integer type, without a look at its values."""
    parts = value if isinstance(value, (list, tuple)) else (value,)
    if any(isinstance(part, Tracer) for part in parts):
        raise TypeError(
            f"{_WHO}: {name} must be an array with values, got a tracer; build the graph outside "
            "of jit and pass it as an argument, or use relational.block"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{_WHO}: {name} must be a vector of integers: {error}") from error
    if array.ndim != 1:
        raise ValueError(
            f"{_WHO}: {name} must be a vector, got shape {array.shape}; flatten it with "
            f"{name}.reshape(-1)"
        )
    if array.size == 0 and isinstance(value, (list, tuple)):
        return array.astype(np.int32)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(
            f"{_WHO}: {name} must be integers, got {array.dtype}; cast with {name}.astype('int32')"
        )
    if array.size > LIMIT:
        raise ValueError(
            f"{_WHO}: {name} must have fewer than 2^31 entries, got {array.size}; split the graph"
        )
    return array


def _numbered(name: str, vector: np.ndarray, count: Any, what: str) -> tuple[np.ndarray, int]:
    """The vector in int32 and how many numbers there are, by default up to its largest."""
    if count is None:
        count = max(0, int(vector.max()) + 1) if vector.size else 0
        if count > _UNNAMED:
            raise ValueError(
                f"{_WHO}: {name} must be numbered from 0 without gaps, got {count - 1} at position "
                f"{int(vector.argmax())}; give {what} if there are so many"
            )
    count = _size(what, count)
    return _bounded(name, vector, count, what), count


def _bounded(name: str, vector: np.ndarray, bound: int, what: str) -> np.ndarray:
    if vector.size and (vector.min() < 0 or vector.max() >= bound):
        at = int(np.argmax((vector < 0) | (vector >= bound)))
        raise ValueError(
            f"{_WHO}: {name} must be in [0, {what}) = [0, {bound}), got {vector[at]} at position "
            f"{at}; check {what} and the ids"
        )
    return np.ascontiguousarray(vector, np.int32)
