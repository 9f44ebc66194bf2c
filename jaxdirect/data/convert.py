"""Graphs that other libraries hold: PyTorch Geometric's edge_index and jraph's GraphsTuple."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxdirect.data.relational import RelationalGraph

_SPLITS = ("train", "valid", "test")


def from_edge_index(
    edge_index: Any,
    edge_type: Any = None,
    *,
    num_nodes: int | None = None,
    relation_names: tuple[str, ...] = (),
    node_type: Any = None,
    type_names: tuple[str, ...] = (),
    features: Any = None,
    labels: Any = None,
    train: Any = None,
    valid: Any = None,
    test: Any = None,
    class_names: tuple[str, ...] = (),
    node_names: tuple[str, ...] = (),
) -> RelationalGraph:
    """A graph from arrays as PyTorch Geometric lays them out; torch is not imported.

    Every array may be a NumPy, JAX or torch one (on any device), or anything else with
    `__array__` or `__dlpack__`.

    Args:
        edge_index: `[2, num_edges]` integers, (source, target).
        edge_type: `[num_edges]` integers; by default there is one relation.
        num_nodes: by default the rows of `features`, the length of `labels` or `node_type`, or the
            largest id plus one, whichever is known first.
        relation_names, type_names, class_names, node_names: as of `RelationalGraph`.
        node_type: `[num_nodes]` integers, or None where there is one type.
        features: floats `[num_nodes, feature_dim]`, or fewer rows: see `RelationalGraph`.
        labels: integers `[num_nodes]` or `[num_nodes, 1]`, -1 where unlabelled.
        train, valid, test: node ids, or boolean masks `[num_nodes]`.

    Returns:
        `RelationalGraph`, whose arrays share memory with the given ones where dtypes allow.

    Raises:
        TypeError: if something is no array, or has the wrong kind of dtype.
        ValueError: if a shape, a length or a value is wrong.

    Example:
        >>> edge_index = np.array([[0, 1, 2], [1, 2, 0]])
        >>> graph = from_edge_index(edge_index, np.array([0, 1, 0]), labels=np.array([0, 1, 1]))
        >>> graph.num_nodes, graph.num_relations, graph.num_classes
        (3, 2, 2)
    """
    who = "from_edge_index"
    pairs = _array(who, "edge_index", edge_index)
    if pairs.ndim != 2 or pairs.shape[0] != 2:
        raise ValueError(
            f"{who}: edge_index must be [2, num_edges], got shape {pairs.shape}"
            + ("; pass edge_index.T" if pairs.ndim == 2 and pairs.shape[1] == 2 else "")
        )
    etype = np.zeros(pairs.shape[1], np.int32) if edge_type is None else edge_type
    given: dict[str, Any] = {"features": features, "labels": labels, "ntype": node_type}
    arrays = {name: _array(who, name, value) for name, value in given.items() if value is not None}
    if "labels" in arrays:
        arrays["labels"] = _vector(arrays["labels"])
    if num_nodes is None:
        num_nodes = next(
            (len(array) for array in arrays.values() if array.ndim),
            int(pairs.max(initial=-1)) + 1,
        )
    for name, value in zip(_SPLITS, (train, valid, test), strict=True):
        if value is not None:
            arrays[name] = _members(who, name, _array(who, name, value), num_nodes)
    return RelationalGraph(
        src=pairs[0],
        dst=pairs[1],
        etype=_vector(_array(who, "edge_type", etype)),
        num_nodes=num_nodes,
        relation_names=relation_names or (("edge",) if edge_type is None else ()),
        type_names=type_names,
        class_names=class_names,
        node_names=node_names,
        **arrays,
    )


def from_jraph(graph: Any, *, etype: Any = None, **options: Any) -> RelationalGraph:
    """A graph from a `jraph.GraphsTuple`, or anything with its fields; jraph is not imported.

    A batch of graphs is one graph without edges between its parts. The padding that jraph adds is
    kept: nodes and edges of a last part that no split names.

    Args:
        graph: has `senders` and `receivers` `[num_edges]`, `n_node` and `n_edge` `[num_graphs]`;
            `nodes`, if it is one float matrix, is the features; `edges`, if `etype` is not given,
            must be the integer type of every edge, or None for one relation.
        etype: `[num_edges]` integers.
        **options: `labels`, `train`, `node_type`, `relation_names` and the like, as of
            `from_edge_index`.

    Returns:
        `RelationalGraph`.

    Raises:
        TypeError: if `graph` has not the fields, or `edges` is no edge type.
        ValueError: if lengths or values do not agree.

    Example:
        >>> import types
        >>> graph = types.SimpleNamespace(nodes=np.ones((3, 4), np.float32), edges=np.array([0, 1]),
        ...     senders=np.array([0, 1]), receivers=np.array([1, 2]), n_node=[3], n_edge=[2])
        >>> from_jraph(graph).etype.tolist()
        [0, 1]
    """
    who = "from_jraph"
    missing = [
        name
        for name in ("senders", "receivers", "n_node", "n_edge")
        if getattr(graph, name, None) is None
    ]
    if missing:
        raise TypeError(
            f"{who}: graph must be a jraph.GraphsTuple, got {type(graph).__name__} "
            f"without {', '.join(missing)}"
        )
    ends = [_array(who, f"graph.{name}", getattr(graph, name)) for name in ("senders", "receivers")]
    count = int(_array(who, "graph.n_edge", graph.n_edge).sum())
    if ends[0].shape != (count,) or ends[1].shape != (count,):
        raise ValueError(
            f"{who}: senders and receivers must have sum(n_edge) = {count} entries, "
            f"got shapes {ends[0].shape} and {ends[1].shape}"
        )
    edges = getattr(graph, "edges", None)
    if etype is None and edges is not None:
        etype = edges if isinstance(edges, dict | tuple) else _vector(_array(who, "edges", edges))
        if not isinstance(etype, np.ndarray) or etype.ndim != 1 or etype.dtype.kind not in "iu":
            got = f"{etype.dtype}{list(etype.shape)}" if isinstance(etype, np.ndarray) else "a tree"
            raise TypeError(
                f"{who}: graph.edges must be integers [num_edges], got {got}; pass etype="
            )
    nodes = getattr(graph, "nodes", None)
    if "features" not in options and getattr(nodes, "ndim", 0) == 2:
        options["features"] = nodes
    num_nodes = int(_array(who, "graph.n_node", graph.n_node).sum())
    return from_edge_index(np.stack(ends), etype, num_nodes=num_nodes, **options)


def _array(who: str, name: str, value: Any) -> np.ndarray:
    """`value` as a NumPy array, without a copy where that is possible."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()  # a torch tensor that needs a gradient, or is on a GPU
    try:
        plain = hasattr(value, "__array__") or not hasattr(value, "__dlpack__")
        array = np.asarray(value) if plain else np.from_dlpack(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise TypeError(
            f"{who}: {name} must be an array, got {type(value).__name__}: {error}; "
            "make it a NumPy array of integers or float32"
        ) from error
    if array.dtype.hasobject or array.dtype.kind in "US":
        raise TypeError(f"{who}: {name} must be an array of numbers, got {type(value).__name__}")
    return array


def _vector(array: np.ndarray) -> np.ndarray:
    """`[n, 1]` as `[n]`."""
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _members(who: str, name: str, array: np.ndarray, num_nodes: int) -> np.ndarray:
    """Node ids, from ids or from a mask."""
    if array.dtype != bool:
        return array
    if array.shape != (num_nodes,):
        raise ValueError(
            f"{who}: {name} must be a mask of shape ({num_nodes},), got {array.shape}; "
            "pick one split, as in mask[:, 0]"
        )
    return np.flatnonzero(array)
