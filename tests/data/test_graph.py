"""CSR building, splits and floors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdirect.data import Graph, build_csr, floors
from jaxdirect.data.graph import narrow, random_split


@st.composite
def edge_lists(draw):
    num_nodes = draw(st.integers(1, 12))
    node = st.integers(0, num_nodes - 1)
    return num_nodes, draw(st.lists(st.tuples(node, node), max_size=40))


def _arrays(edges):
    table = np.array(edges, np.int32).reshape(-1, 2)
    return table[:, 0], table[:, 1]


@given(edge_lists(), st.booleans())
def test_csr_is_the_set_of_neighbours(case, directed):
    num_nodes, edges = case
    rows = [set() for _ in range(num_nodes)]
    for source, target in edges:
        if source != target:
            rows[target].add(source)
            if not directed:
                rows[source].add(target)
    indptr, indices = build_csr(*_arrays(edges), num_nodes, directed=directed)
    assert indptr.dtype == indices.dtype == np.int32
    assert indptr.tolist() == [0, *np.cumsum([len(row) for row in rows])]
    assert indices.tolist() == [node for row in rows for node in sorted(row)]


def test_csr_keys_do_not_overflow():
    num_nodes = 3_000_000
    src, dst = np.array([num_nodes - 1], np.int32), np.array([num_nodes - 2], np.int32)
    indptr, indices = build_csr(src, dst, num_nodes)
    assert indices.tolist() == [num_nodes - 1, num_nodes - 2]
    assert indptr[-3:].tolist() == [0, 1, 2]


def test_no_nodes():
    nothing = np.zeros(0, np.int32)
    indptr, indices = build_csr(nothing, nothing, 0)
    assert indptr.tolist() == [0]
    assert indices.size == 0


def test_narrow():
    assert narrow(np.zeros(1, np.int64), 2**31).dtype == np.int32
    assert narrow(np.zeros(1, np.int64), 2**31 + 1).dtype == np.int64


def test_split_knows_nothing_of_labels_of_the_same_seed():
    labels = np.random.default_rng(0).integers(0, 4, 4000)
    parts = random_split(np.arange(4000), 0)
    for part in parts:
        assert np.bincount(labels[part], minlength=4).min() > 0.2 * part.size


def test_split_is_a_partition_and_frozen():
    ids = np.arange(100, 120)
    parts = random_split(ids, 3)
    assert [part.size for part in parts] == [16, 2, 2]
    assert np.sort(np.concatenate(parts)).tolist() == ids.tolist()
    # Raw PCG64 output is frozen, so a published split never moves.
    assert [part.tolist() for part in parts[1:]] == [[100, 112], [101, 102]]
    assert not np.array_equal(random_split(ids, 4)[0], parts[0])


@given(edge_lists(), st.randoms())
def test_floors_agree_with_loops(case, random):
    num_nodes, edges = case
    num_nodes += 2
    labels = np.array([random.randrange(3) for _ in range(num_nodes)], np.int32)
    order = random.sample(range(num_nodes), num_nodes)
    cut = random.randrange(1, num_nodes)
    train, test = np.array(order[:cut]), np.array(order[cut:])
    graph = _graph(edges, labels, train, test)
    counts = [int((labels[train] == c).sum()) for c in range(3)]
    majority = counts.index(max(counts))
    right, seen = 0, 0
    for node in test:
        row = graph.indices[graph.indptr[node] : graph.indptr[node + 1]]
        votes = [int(labels[n]) for n in row if n in train]
        tally = [votes.count(c) for c in range(3)]
        right += (tally.index(max(tally)) if votes else majority) == labels[node]
        seen += bool(votes)
    got = floors(graph)
    assert got.majority == pytest.approx(np.mean(labels[test] == majority))
    assert got.label_vote == pytest.approx(right / test.size)
    assert got.coverage == pytest.approx(seen / test.size)


@pytest.mark.parametrize("name", ["train", "test"])
def test_floors_need_nodes(name):
    parts = {"train": np.array([0]), "test": np.array([1]), name: np.array([], np.int32)}
    graph = _graph([(0, 1)], np.array([0, 1]), parts["train"], parts["test"])
    with pytest.raises(ValueError, match=f"floors: graph.{name} must not be empty"):
        floors(graph)


def _graph(edges, labels, train, test):
    src, dst = _arrays(edges)
    indptr, indices = build_csr(src, dst, labels.size)
    features = np.zeros((labels.size, 1), np.float32)
    none = np.array([], np.int32)
    names = ("a", "b", "c")
    etype = np.zeros(src.size, np.uint8)
    return Graph(indptr, indices, features, labels, train, none, test, names, src, dst, etype)
