"""RelGraph: what it takes and refuses, how it passes through jit, padding."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from relgraphs import DST, ETYPE, SRC, assert_same, random_graph, small

from jaxdirect.relational import RelGraph


def test_sizes():
    graph = small(ntype=[0, 0, 2, 1])
    assert (graph.num_nodes, graph.num_src, graph.num_dst) == (4, 4, 4)
    assert (graph.num_edges, graph.num_relations, graph.num_types) == (4, 2, 3)
    assert all(leaf.dtype in (np.int32, np.float32) for leaf in jax.tree.leaves(graph))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(graph))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64", ">i4"])
def test_any_integers(dtype):
    arrays = (np.asarray(x, dtype) for x in (SRC, DST, ETYPE))
    assert_same(RelGraph.from_edges(*arrays, num_nodes=np.int64(4)), small())


def test_any_arrays():
    arrays = (jnp.asarray(SRC), tuple(DST), np.repeat(ETYPE, 2)[::2])
    assert_same(RelGraph.from_edges(*arrays, num_nodes=4), small())


def test_does_not_keep_the_callers_memory():
    ntype = np.zeros(4, np.int32)
    graph = small(ntype=ntype)
    ntype[:] = 7
    np.testing.assert_array_equal(graph.ntype, np.zeros(4))


def test_no_numbers_given():
    graph = RelGraph.from_edges([], [], [], num_nodes=0, ntype=[])
    assert (graph.num_edges, graph.num_relations, graph.num_types) == (0, 0, 0)


LONG = np.broadcast_to(np.int32(0), (2**31,))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"src": [0.5] * 4}, TypeError, "src must be integers, got float64; cast with src.astype"),
        ({"dst": [True] * 4}, TypeError, "dst must be integers, got bool"),
        ({"etype": ["a"] * 4}, TypeError, "etype must be integers, got <U1"),
        ({"src": [[0], [1, 2]]}, TypeError, "src must be a vector of integers: setting an array"),
        ({"src": [[0, 1, 1, 3]]}, ValueError, r"src must be a vector, got shape \(1, 4\); flatten"),
        ({"dst": 3}, ValueError, r"dst must be a vector, got shape \(\)"),
        ({"dst": [0]}, ValueError, r"dst must have one entry per edge, as src has \(4\), got 1"),
        ({"etype": [0] * 5}, ValueError, r"etype must have one entry per edge, as .* got 5"),
        (
            {"src": [0, 4, 9, 1]},
            ValueError,
            r"src must be in \[0, num_nodes\) = \[0, 4\), got 4 at position 1; check num_nodes",
        ),
        ({"dst": [0, 1, -1, 9]}, ValueError, r"dst must be in .* got -1 at position 2"),
        (
            {"dst": np.array([0, 1, 2**32, 1])},
            ValueError,
            r"dst must be in \[0, num_nodes\) = \[0, 4\), got 4294967296 at position 2",
        ),
        ({"etype": [0, -1, 0, 0]}, ValueError, r"etype must be in .* got -1 at position 1"),
        (
            {"num_relations": 1},
            ValueError,
            r"etype must be in \[0, num_relations\) = \[0, 1\), got 1 at position 1",
        ),
        (
            {"etype": [0, 0, 0, 2**31 - 2]},
            ValueError,
            "etype must be numbered .* got 2147483646 at position 3; give num_relations",
        ),
        ({"src": LONG}, ValueError, "src must have fewer than 2.31 entries, got 2147483648; split"),
        (
            {"num_nodes": 2**31},
            ValueError,
            r"num_nodes must be an integer in \[0, 2\^31\), got 214",
        ),
        ({"num_nodes": -1}, ValueError, "num_nodes must be an integer .* got -1"),
        ({"num_nodes": 4.0}, ValueError, "num_nodes must be an integer .* got 4.0"),
        ({"num_relations": True}, ValueError, "num_relations must be an integer .* got True"),
        ({"compaction": "dst"}, ValueError, "compaction must be one of none, src, min, got 'dst'"),
        ({"ntype": [0, 1]}, ValueError, "ntype must have one entry per node, num_nodes = 4, got 2"),
        ({"ntype": [0, 0, -1, 0]}, ValueError, "ntype must be in .* got -1 at position 2"),
        (
            {"ntype": [0, 0, 1, 0], "num_types": 1},
            ValueError,
            r"ntype must be in \[0, num_types\) = \[0, 1\), got 1 at position 2",
        ),
        ({"num_types": 2}, ValueError, "num_types must be None without ntype, got 2; pass"),
        ({"pad_to": {"num_nodes": 9}}, ValueError, r"pad_to must be \{'num_nodes': n, 'num_edges'"),
        ({"pad_to": 9}, ValueError, "pad_to must be .* got 9"),
        (
            {"pad_to": {"num_nodes": 9, "num_edges": 9}},
            ValueError,
            "num_relations must be given with pad_to, got None; padded graphs share",
        ),
        (
            {
                "pad_to": {"num_nodes": 9, "num_edges": 9},
                "num_relations": 2,
                "ntype": [0] * 4,
            },
            ValueError,
            "num_types must be given with pad_to",
        ),
        (
            {"pad_to": {"num_nodes": 3, "num_edges": 9}, "num_relations": 2},
            ValueError,
            r"pad_to\['num_nodes'\] must be at least the graph's 4, got 3; pad to a larger size",
        ),
        (
            {"pad_to": {"num_nodes": 9, "num_edges": 3}, "num_relations": 2},
            ValueError,
            r"pad_to\['num_edges'\] must be at least the graph's 4, got 3",
        ),
        (
            {"pad_to": {"num_nodes": 9, "num_edges": 2**31}, "num_relations": 2},
            ValueError,
            r"pad_to\['num_edges'\] must be an integer in",
        ),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"src": SRC, "dst": DST, "etype": ETYPE, "num_nodes": 4, **change}
    with pytest.raises(error, match=r"^RelGraph.from_edges: " + message):
        RelGraph.from_edges(**arguments)


def test_too_many_tiles_for_int32():
    sizes = {"num_nodes": 4, "num_edges": 2**31 - 1}
    with pytest.raises(ValueError, match=r"the plan needs .* tiles of 64 compact rows, more than"):
        small(num_relations=5, compaction="none", pad_to=sizes)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x[0], 1, 1, 1]])
def test_traced_edges(wrap):
    make = jax.jit(lambda src: RelGraph.from_edges(wrap(src), DST, ETYPE, num_nodes=4))
    with pytest.raises(TypeError, match=r"src must be an array with values, .* relational\.block"):
        make(jnp.asarray(SRC))


def test_repr():
    assert repr(small()) == "RelGraph(num_nodes=4, num_edges=4, num_relations=2)"
    options = {"ntype": [0, 1, 0, 1], "num_types": 2, "compaction": "src", "attention": False}
    pad_to = {"num_nodes": 5, "num_edges": 6}
    assert repr(small(**options, num_relations=2, pad_to=pad_to)) == (
        "RelGraph(num_nodes=5, num_edges=6, num_relations=2, num_types=2, compaction='src', "
        "attention=False, padded=True)"
    )
    seen = []
    jax.jit(lambda g: seen.append((repr(g), repr(g.sums.into))))(small())
    assert seen == [
        (
            repr(small()),
            "Lists(indptr=int32[5], indices=int32[3], items=int32[1, 4], heavy=int32[0, 3], "
            "num_partials=0)",
        )
    ]


def test_graphs_of_equal_sizes_share_a_program():
    traces = []

    @jax.jit
    def through(graph):
        traces.append(1)
        return graph

    room = {"num_nodes": 80, "num_edges": 900}
    for typed in (None, np.arange(60) % 2):
        before = len(traces)
        options = {"pad_to": room, "ntype": typed, "num_types": None if typed is None else 2}
        for compaction in ("min", "src", "none"):
            graphs = [
                random_graph(0, **options, compaction=compaction),
                random_graph(1, 899, **options, compaction=compaction),
                random_graph(2, 700, 60, **options, compaction=compaction),
                RelGraph.from_edges(
                    [0] * 900, [1] * 900, [2] * 900, num_nodes=60, num_relations=3,
                    **options, compaction=compaction,
                ),
                RelGraph.from_edges(
                    [], [], [], num_nodes=60, num_relations=3, **options, compaction=compaction
                ),
            ]  # fmt: skip
            for graph in graphs:
                assert_same(through(graph), graph)
        assert len(traces) == before + 3


def test_progress(capsys):
    stages = []
    small(progress=stages.append)
    assert stages[0] == "sorting edges by destination"
    assert len(stages) == len(set(stages)) == 7
    assert capsys.readouterr().err == ""
    small(progress=True)
    shown = capsys.readouterr().err
    assert re.search(r"RelGraph: 4 edges \[#{20}\] .* done *\n$", shown)
    small()
    small(progress=False)
    assert capsys.readouterr().err == ""


def test_progress_comes_late(capsys, monkeypatch):
    monkeypatch.setattr("jaxdirect.relational._build._PATIENCE", 0.0)
    small()
    assert "RelGraph: 4 edges" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("no")])
def test_progress_can_stop_a_build(error):
    def stop(name):
        if name == "sorting edges by source":
            raise error

    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        small(progress=stop)
