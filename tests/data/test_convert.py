"""Graphs from arrays as PyTorch Geometric and jraph hold them, without either."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdirect.data import from_edge_index, from_jraph

PAIRS = np.array([[0, 1, 2, 2], [1, 2, 0, 3]])
TYPES = np.array([0, 1, 0, 2])


class Tensor:
    """Acts as a torch tensor does: needs `detach` and `cpu` before NumPy may read it."""

    def __init__(self, array, *, ready=False):
        self.array, self.ready = np.asarray(array), ready

    def detach(self):
        return self

    def cpu(self):
        return Tensor(self.array, ready=True)

    def __array__(self, dtype=None, copy=None):
        if not self.ready:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad")
        return self.array


class Capsule:
    """Has `__dlpack__` and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray, Tensor, Capsule, np.ndarray.tolist])
def test_every_kind_of_array(kind):
    graph = from_edge_index(
        kind(PAIRS),
        kind(TYPES),
        features=kind(np.ones((4, 2), np.float32)),
        labels=kind(np.array([0, 1, 1, -1])),
        node_type=kind(np.array([0, 0, 1, 1])),
        train=kind(np.array([True, False, False, False])),
        test=kind(np.array([2])),
        relation_names=("a", "b", "c"),
        type_names=("x", "y"),
        class_names=("p", "q"),
        node_names=("k", "l", "m", "n"),
    )
    assert np.array_equal([graph.src, graph.dst], PAIRS)
    assert graph.etype.tolist() == TYPES.tolist()
    assert graph.features.shape == (4, 2)
    assert graph.ntype.tolist() == [0, 0, 1, 1]
    assert (graph.train.tolist(), graph.valid.tolist(), graph.test.tolist()) == ([0], [], [2])
    assert (graph.relation_names, graph.class_names) == (("a", "b", "c"), ("p", "q"))


def test_bfloat16_features_stay():
    graph = from_edge_index(PAIRS, features=jnp.ones((4, 2), jnp.bfloat16))
    assert graph.features.dtype == jnp.bfloat16


def test_defaults():
    graph = from_edge_index(PAIRS)
    assert (graph.num_nodes, graph.relation_names) == (4, ("edge",))
    assert from_edge_index(PAIRS, TYPES).relation_names == ("0", "1", "2")
    assert from_edge_index(PAIRS, labels=np.zeros((6, 1), int)).num_nodes == 6
    assert from_edge_index(PAIRS, features=np.zeros((7, 1))).num_nodes == 7
    assert from_edge_index(PAIRS, features=np.zeros((2, 1)), num_nodes=9).num_nodes == 9
    assert from_edge_index(np.zeros((2, 0), int)).num_nodes == 0
    assert from_edge_index(PAIRS, TYPES[:, None]).etype.tolist() == TYPES.tolist()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"edge_index": PAIRS.T}, ValueError, r"must be \[2, num_edges\], .*; pass edge_index.T"),
        ({"edge_index": TYPES}, ValueError, r"must be \[2, num_edges\], got shape \(4,\)"),
        ({"edge_index": PAIRS * 1.0}, TypeError, "src must be integers, got float64"),
        ({"edge_index": "edges"}, TypeError, "edge_index must be an array of numbers, got str"),
        ({"edge_index": object()}, TypeError, "edge_index must be an array of numbers, got object"),
        ({"edge_index": [[0, 1], [2]]}, TypeError, "edge_index must be an array, got list"),
        ({"edge_type": TYPES[:2]}, ValueError, r"etype must have one entry per edge \(4\), got 2"),
        ({"num_nodes": 3}, ValueError, "dst must hold .*got 3 at position 3; raise num_nodes"),
        (
            {"labels": TYPES, "train": np.ones((4, 10), bool)},
            ValueError,
            r"train must be a mask of shape \(4,\), got \(4, 10\); pick one split",
        ),
        ({"train": [0]}, ValueError, r"train: node 0 at position 0 is unlabelled"),
    ],
)
def test_bad_edge_index(arguments, error, message):
    with pytest.raises(error, match=message):
        from_edge_index(**({"edge_index": PAIRS} | arguments))


# --- jraph


class GraphsTuple(NamedTuple):
    nodes: Any = None
    edges: Any = None
    receivers: Any = PAIRS[1]
    senders: Any = PAIRS[0]
    globals: Any = None
    n_node: Any = np.array([3, 1])
    n_edge: Any = np.array([3, 1])


def test_jraph():
    graph = from_jraph(
        GraphsTuple(jnp.ones((4, 2)), jnp.asarray(TYPES), jnp.asarray(PAIRS[1])),
        labels=[0, 1, 0, 1],
        train=[0],
        relation_names=("a", "b", "c"),
    )
    assert np.array_equal([graph.src, graph.dst], PAIRS)
    assert graph.etype.tolist() == TYPES.tolist()
    assert graph.features.shape == (4, 2)
    assert (graph.num_nodes, graph.relation_names) == (4, ("a", "b", "c"))


def test_jraph_given_types_and_trees():
    graph = GraphsTuple({"x": np.ones((4, 2))}, {"weight": np.ones(4)}, n_node=[6], n_edge=[4])
    got = from_jraph(graph, etype=TYPES)
    assert (got.num_nodes, got.features, got.num_relations) == (6, None, 3)
    assert from_jraph(GraphsTuple()).relation_names == ("edge",)
    assert from_jraph(GraphsTuple(edges=TYPES[:, None])).num_relations == 3
    assert from_jraph(GraphsTuple(nodes=np.ones((4, 2))), features=None).features is None


@pytest.mark.parametrize(
    ("graph", "error", "message"),
    [
        (
            SimpleNamespace(n_node=[1]),
            TypeError,
            "SimpleNamespace without senders, receivers, n_ed",
        ),
        (GraphsTuple(senders=None), TypeError, "got GraphsTuple without senders"),
        (GraphsTuple(n_edge=[5]), ValueError, r"sum\(n_edge\) = 5 entries, got shapes \(4,\) and"),
        (GraphsTuple(n_node=[3]), ValueError, "dst must hold values in .*got 3 at position 3"),
        (
            GraphsTuple(edges=np.ones((4, 2))),
            TypeError,
            r"edges must be integers \[num_edges\], got float64\[4, 2\]; pass etype=",
        ),
        (GraphsTuple(edges={"type": TYPES}), TypeError, "got a tree; pass etype="),
    ],
)
def test_bad_jraph(graph, error, message):
    with pytest.raises(error, match=message):
        from_jraph(graph)
