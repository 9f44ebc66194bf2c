"""The plan of a relational graph: every array against a slow, plain oracle."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_checks import check_division
from plan_oracle import Oracle

from jaxdirect import _ffi
from jaxdirect.relational import RelGraph
from jaxdirect.relational._lists import piece_of


def random_graph(seed, num_edges, num_nodes, num_relations, *, power=1.0):
    """Edges whose ends crowd at low ids for power > 1."""
    rng = np.random.default_rng(seed)
    src, dst = (num_nodes * rng.random((2, num_edges)) ** power).astype(np.int32)
    return src, dst, rng.integers(0, num_relations, num_edges, dtype=np.int32)


def build_and_check(src, dst, etype, num_nodes, num_relations, ntype=None, **options):
    num_types = None if ntype is None else max(ntype, default=0) + 1
    graph = RelGraph.from_edges(
        src,
        dst,
        etype,
        num_nodes=num_nodes,
        num_relations=num_relations,
        ntype=ntype,
        num_types=num_types,
        **options,
    )
    Oracle(src, dst, etype, num_nodes, num_relations, ntype, num_types or 0).check(graph)
    return graph


CASES = {
    "no edges": (([], [], []), 5, 3),
    "nothing": (([], [], []), 0, 0),
    "one node": (([0] * 5, [0] * 5, [0, 1, 1, 0, 2]), 1, 3),
    "self loops": ((range(70), range(70), [0] * 70), 70, 1),
    "repeated edges": (([3] * 200, [2] * 200, [1] * 200), 4, 2),
    "empty relations": (([0, 1], [1, 0], [5, 2]), 2, 9),
    "fan in": ((range(100), [0] * 100, [0] * 100), 100, 1),
    "fan out": (([0] * 100, range(100), [0] * 100), 100, 1),
    "both": (([*range(100), *[0] * 100], [*[0] * 100, *range(100)], [0] * 100 + [1] * 100), 100, 2),
    "row of 16": (([0] * 16 + [1] * 17, range(33), [0] * 33), 33, 1),
    "random": (random_graph(0, 1500, 100, 4), 100, 4),
    "three windows": (random_graph(1, 900, 140_000, 3), 140_000, 3),
    "sparse": (random_graph(1, 300, 5000, 7), 5000, 7),
    "dense": (random_graph(2, 2000, 5, 2), 5, 2),
    "crowded": (random_graph(3, 2000, 200, 5, power=4.0), 200, 5),
    "many relations": (random_graph(4, 600, 20, 150), 20, 150),
}


@pytest.mark.parametrize("compaction", ["min", "src", "none"])
@pytest.mark.parametrize("case", CASES)
def test_every_array(case, compaction):
    edges, num_nodes, num_relations = CASES[case]
    build_and_check(*map(list, edges), num_nodes, num_relations, compaction=compaction)


@pytest.mark.parametrize("compaction", ["min", "src", "none"])
@pytest.mark.parametrize(
    "case", ["no edges", "empty relations", "both", "random", "many relations"]
)
def test_every_array_with_node_types(case, compaction):
    edges, num_nodes, num_relations = CASES[case]
    ntype = np.random.default_rng(7).integers(0, 4, num_nodes)
    build_and_check(*map(list, edges), num_nodes, num_relations, ntype, compaction=compaction)


@pytest.mark.parametrize("compaction", ["min", "src", "none"])
@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("case", sorted(CASES.keys() - {"three windows"}))
def test_every_array_with_padding(case, typed, compaction):
    edges, num_nodes, num_relations = CASES[case]
    src, dst, etype = map(list, edges)
    ntype = np.random.default_rng(7).integers(0, 3, num_nodes) if typed else None
    room = {"num_nodes": num_nodes + 70, "num_edges": len(src) + 130}
    graph = RelGraph.from_edges(
        src,
        dst,
        etype,
        num_nodes=num_nodes,
        num_relations=num_relations,
        ntype=ntype,
        num_types=3 if typed else None,
        compaction=compaction,
        pad_to=room,
    )
    assert (graph.num_nodes, graph.num_edges) == tuple(room.values())
    padded = None if ntype is None else np.pad(ntype, (0, 70))
    Oracle(src, dst, etype, room["num_nodes"], num_relations, padded, 3).check(graph)


def test_hub():
    rng = np.random.default_rng(5)
    src = rng.integers(0, 3000, 61_000)
    dst = np.where(np.arange(61_000) < 60_000, 17, rng.integers(0, 3000, 61_000))
    etype = rng.integers(0, 2, 61_000)
    graph = build_and_check(src, dst, etype, 3000, 2)
    assert graph.sums.tiles.num_direct < graph.sums.tiles.num_tiles
    assert np.asarray(graph.incoming.heavy)[0, 2] >= 60_000 // 16


@pytest.mark.parametrize("piece", [16, 32, 64])
def test_larger_graphs_have_larger_pieces(piece):
    num_edges = (piece << 14) + 100
    src, dst, etype = random_graph(piece, num_edges, 3000, 2, power=6.0)
    graph = RelGraph.from_edges(src, dst, etype, num_nodes=3000, num_relations=2)
    assert piece_of(num_edges) == piece
    assert graph.attention is not None
    for lists in (graph.incoming, graph.sums.into, graph.attention.src_tiles.far):
        check_division(lists)
    assert np.diff(np.asarray(graph.attention.src_tiles.far.indptr)).max() == piece


def test_without_attention():
    edges, num_nodes, num_relations = CASES["random"]
    graph = build_and_check(*edges, num_nodes, num_relations, attention=False)
    assert graph.attention is None


def test_shared_tiles():
    fan_out, fan_in = CASES["fan out"][0], CASES["fan in"][0]
    graph = build_and_check(*map(list, fan_out), 100, 1)
    assert graph.attention.src_tiles is graph.sums.tiles
    assert graph.attention.dst_tiles is not graph.sums.tiles
    graph = build_and_check(*map(list, fan_in), 100, 1)
    assert graph.attention.dst_tiles is graph.sums.tiles
    graph = build_and_check(*map(list, fan_out), 100, 1, [1] * 100)  # one type for the relation
    assert graph.attention.src_tiles is graph.sums.tiles
    graph = build_and_check([0, 1], [1, 0], [0, 0], 2, 1, [1, 0])
    assert graph.attention.src_tiles is not graph.sums.tiles


edges_of_a_graph = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.lists(
            st.tuples(st.integers(0, n - 1), st.integers(0, n - 1), st.integers(0, 3)), max_size=400
        ),
        st.none() | st.lists(st.integers(0, 2), min_size=n, max_size=n),
    )
)


@settings(max_examples=60, deadline=None)
@given(edges_of_a_graph, st.sampled_from(["min", "src", "none"]))
def test_any_graph(graph, compaction):
    num_nodes, edges, ntype = graph
    src, dst, etype = np.array(edges, np.int64).reshape(-1, 3).T
    build_and_check(src, dst, etype, num_nodes, 4, ntype, compaction=compaction)


@pytest.mark.parametrize("pad_edges", [-1, 400_000])
def test_threads_do_not_change_the_plan(pad_edges):
    src, dst, etype = random_graph(6, 300_000, 9000, 5, power=2.0)
    ntype = np.random.default_rng(1).integers(0, 3, 9000, dtype=np.int32)
    build = _ffi.require("cpu", "test").build_plan
    options = (9000, 5, 3, 2, True, pad_edges)
    one, many = (
        build(src, dst, etype, ntype, *options, num_threads, lambda _: None)
        for num_threads in (1, 5)
    )
    jax.tree.map(np.testing.assert_array_equal, one, many)
