"""The relational graph: what it checks, its inverses, its floors, and WordNet in that form."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdirect.data import (
    RelationalGraph,
    floors,
    relational_floors,
    relational_wordnet,
    wordnet,
)

GOOD = {
    "src": [0, 2, 2],
    "dst": [1, 1, 2],
    "etype": [0, 2, 0],
    "num_nodes": 4,
    "relation_names": ("a", "b", "c"),
    "ntype": [0, 0, 1, 1],
    "type_names": ("x", "y"),
    "features": np.ones((2, 3), np.float32),
    "labels": [0, 1, 1, -1],
    "train": [0],
    "valid": [1],
    "test": [2],
    "class_names": ("p", "q"),
    "node_names": ("k", "l", "m", "n"),
}


def make(**changes):
    return RelationalGraph(**(GOOD | changes))


def test_arrays_are_int32_and_counted():
    graph = make(src=np.array([0, 2, 2], np.uint64), labels=np.array([0, 1, 1, -1], np.int64))
    for name in ("src", "dst", "etype", "ntype", "labels", "train", "valid", "test"):
        assert getattr(graph, name).dtype == np.int32, name
    sizes = (graph.num_edges, graph.num_relations, graph.num_types, graph.num_classes)
    assert sizes == (3, 3, 2, 2)
    assert graph.features is GOOD["features"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.num_nodes = 5  # pyright: ignore[reportAttributeAccessIssue]


def test_int32_is_not_copied():
    src = np.array([0, 2, 2], np.int32)
    assert make(src=src).src is src


def test_names_by_default_are_numbers():
    graph = RelationalGraph([0, 1], [1, 0], [0, 2], 3, ntype=[0, 1, 1], labels=[4, -1, 0])
    assert graph.relation_names == ("0", "1", "2")
    assert graph.type_names == ("0", "1")
    assert graph.class_names == ("0", "1", "2", "3", "4")
    alone = RelationalGraph([], [], [], 0)
    assert (alone.type_names, alone.relation_names, alone.class_names) == (("node",), (), ())
    assert RelationalGraph([], [], [], 2).labels.tolist() == [-1, -1]


def test_repr_shows_sizes_not_data():
    text = repr(make())
    assert text == (
        "RelationalGraph(num_nodes=4, num_edges=3, num_relations=3, num_types=2, num_classes=2, "
        "features=float32[2, 3], train=1, valid=1, test=1)"
    )
    assert "features" not in repr(make(features=None))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_nodes": 2**31}, ValueError, r"num_nodes must be an integer in \[0, 2\^31\)"),
        ({"num_nodes": 4.0}, ValueError, "num_nodes must be an integer .*got 4.0"),
        ({"num_nodes": True}, ValueError, "num_nodes must be an integer .*got True"),
        (
            {"src": [0, 2, 4]},
            ValueError,
            r"src must hold values in \[0, 4\), got 4 at position 2; raise num_nodes",
        ),
        ({"dst": [0, -1, 0]}, ValueError, r"dst must hold .*got -1 at position 1"),
        (
            {"src": np.array([0, 2**32, 1])},
            ValueError,
            r"src must hold .*got 4294967296 at position 1",
        ),
        ({"src": [0.0, 1.0, 2.0]}, TypeError, "src must be integers, got float64; cast with"),
        ({"src": [[0, 1, 2]]}, ValueError, r"src must be a vector .*got shape \(1, 3\)"),
        (
            {"src": np.broadcast_to(np.int32(0), (2**31,))},
            ValueError,
            r"src must be a vector of fewer than 2\^31 entries",
        ),
        ({"dst": [0, 1]}, ValueError, r"dst must have one entry per edge \(3\), got 2"),
        ({"etype": [0]}, ValueError, r"etype must have one entry per edge \(3\), got 1"),
        (
            {"etype": [0, 3, 0]},
            ValueError,
            r"etype must hold values in \[0, 3\), got 3 at position 1; name every one in relation",
        ),
        (
            {"etype": [0, 1 << 30, 0], "relation_names": ()},
            ValueError,
            r"etype must hold values in \[0, 1048576\)",
        ),
        ({"ntype": [0, 0, 1]}, ValueError, r"ntype must have one entry per node \(4\), got 3"),
        ({"ntype": [0, 0, 1, 2]}, ValueError, "ntype must hold .*type_names"),
        ({"ntype": None}, ValueError, "ntype must be given with 2 type_names"),
        ({"features": np.ones((5, 3))}, ValueError, r"features must be \[num_featured <= 4"),
        ({"features": np.ones(4)}, ValueError, r"features must be .*got shape \(4,\)"),
        ({"features": np.ones((4, 3), int)}, TypeError, "features must be floats, got int64"),
        ({"labels": [0, 1, 2, -1]}, ValueError, "labels must hold .*got 2 at position 2"),
        ({"labels": [0, 1, -2, -1]}, ValueError, r"labels must hold values in \[-1, 2\), got -2"),
        ({"labels": [0, 1]}, ValueError, r"labels must have one entry per node \(4\), got 2"),
        ({"train": [4]}, ValueError, r"train must hold values in \[0, 4\), got 4"),
        ({"train": [0, 3]}, ValueError, "train: node 3 at position 1 is unlabelled"),
        ({"valid": [1, 0]}, ValueError, "valid: node 0 at position 1 is in another split too"),
        ({"test": [2, 2]}, ValueError, "test names a node twice"),
        ({"node_names": ("k",)}, ValueError, r"node_names must have one entry per node \(4\)"),
    ],
)
def test_bad_arguments(changes, error, message):
    with pytest.raises(error, match=f"RelationalGraph: {message}"):
        make(**changes)


def test_inverses():
    graph = make()
    both = graph.with_inverses()
    assert both.src.tolist() == [0, 2, 2, 1, 1, 2]
    assert both.dst.tolist() == [1, 1, 2, 0, 2, 2]
    assert both.etype.tolist() == [0, 2, 0, 3, 5, 3]
    assert both.relation_names == ("a", "b", "c", "inverse_a", "inverse_b", "inverse_c")
    assert both.features is graph.features
    assert both.with_inverses() is both
    assert (graph.has_inverses, both.has_inverses) == (False, True)
    assert not RelationalGraph([], [], [], 0).has_inverses


def test_homogeneous():
    graph = make().homogeneous()
    assert graph.indptr.tolist() == [0, 1, 3, 4, 4]
    assert graph.indices.tolist() == [1, 0, 2, 1]
    assert graph.features.tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert (graph.class_names, graph.test.tolist()) == (("p", "q"), [2])
    assert make(features=None).homogeneous().features.shape == (4, 0)
    full = np.ones((4, 1), np.float32)
    assert make(features=full).homogeneous().features is full


# --- floors


@st.composite
def tasks(draw):
    num_nodes, num_classes, num_relations = 8, 3, 2
    node = st.integers(0, num_nodes - 1)
    edges = draw(st.lists(st.tuples(node, node, st.integers(0, num_relations - 1)), max_size=20))
    labels = draw(st.lists(st.integers(0, num_classes - 1), min_size=8, max_size=8))
    order = draw(st.permutations(range(num_nodes)))
    cut, end = draw(st.integers(1, 5)), draw(st.integers(6, 8))
    src, dst, etype = np.array(edges, int).reshape(-1, 3).T
    return RelationalGraph(
        src,
        dst,
        etype,
        num_nodes,
        ("a", "b"),
        labels=labels,
        train=sorted(order[:cut]),
        test=order[cut:end],
        class_names=("p", "q", "r"),
    )


def _bayes_by_loops(graph, smoothing, of):
    """The least and the most that the rule can score."""
    tokens = [[] for _ in range(graph.num_nodes)]
    for src, dst, etype in zip(graph.src, graph.dst, graph.etype, strict=True):
        if src != dst:
            tokens[dst].append(("in", etype, of(src)))
            tokens[src].append(("out", etype, of(dst)))
    vocabulary = max(len({token for row in tokens for token in row}), 1)
    classes = range(graph.num_classes)
    seen = [[t for v in graph.train if graph.labels[v] == c for t in tokens[v]] for c in classes]
    share = np.bincount(graph.labels[graph.train], minlength=3) / graph.train.size
    least = most = 0
    for v in graph.test:
        with np.errstate(divide="ignore"):
            scores = np.log(share)
        for c in classes:
            for token in tokens[v]:
                count = seen[c].count(token) + smoothing
                scores[c] += np.log(count / (len(seen[c]) + smoothing * vocabulary))
        # Equal scores may round apart, and then either class is right.
        best = np.flatnonzero(scores >= scores.max() - 1e-9).tolist()
        least += best == [graph.labels[v]]
        most += graph.labels[v] in best
    return least / graph.test.size, most / graph.test.size


@given(tasks())
def test_floors_agree_with_loops(graph):
    got = relational_floors(graph)
    simple = floors(graph.homogeneous())
    assert (got.majority, got.label_vote, got.coverage) == dataclasses.astuple(simple)
    train = set(graph.train.tolist())
    rules = (
        (got.label_bayes, 1.0, lambda v: graph.labels[v] if v in train else None),
        (got.node_bayes, 0.1, lambda v: v),
    )
    for value, smoothing, of in rules:
        least, most = _bayes_by_loops(graph, smoothing, of)
        assert least <= value <= most


@given(tasks())
def test_inverses_change_no_floor(graph):
    assert relational_floors(graph.with_inverses()) == relational_floors(graph)


def test_test_labels_do_not_reach_the_floors():
    """A rule that looked at a test node's label would see it through its neighbour."""
    graph = RelationalGraph(
        [0, 1, 2], [3, 3, 3], [0, 0, 0], 4, labels=[0, 1, 1, -1], train=[0], test=[1, 2]
    )
    other = dataclasses.replace(graph, labels=[0, 0, 0, -1])
    assert relational_floors(other).label_bayes == 1 - relational_floors(graph).label_bayes == 1


@pytest.mark.parametrize("name", ["train", "test"])
def test_floors_need_nodes(name):
    with pytest.raises(ValueError, match=f"floors: graph.{name} must not be empty"):
        relational_floors(make(**{name: []}))


# --- WordNet


def test_relational_wordnet():
    plain, graph = wordnet(feature_dim=8), relational_wordnet(feature_dim=8)
    assert (graph.num_nodes, graph.num_edges) == (117_659, 377_592)
    assert (graph.num_relations, graph.num_classes) == (26, 45)
    for name in ("src", "dst", "etype", "features", "labels", "train", "valid", "test"):
        assert np.array_equal(getattr(graph, name), getattr(plain, name)), name
    assert graph.with_inverses().num_relations == 52
    got = relational_floors(graph)
    assert got.label_vote == pytest.approx(0.712, abs=0.005)
    assert got.label_bayes == pytest.approx(0.890, abs=0.005)
    assert got.node_bayes == pytest.approx(0.786, abs=0.005)
    with pytest.raises(ValueError, match="wordnet: seed must be an integer >= 0, got -1"):
        relational_wordnet(seed=-1)
