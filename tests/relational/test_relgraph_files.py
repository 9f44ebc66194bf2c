"""RelGraph in words and in files: explain, save, load."""

from __future__ import annotations

import json
import os
import re

import jax
import numpy as np
import pytest
from relgraphs import assert_same, random_graph, small

from jaxdirect.relational import RelGraph


def test_explain():
    graph = RelGraph.from_edges([0] * 90 + [1], range(91), [0] * 90 + [2], num_nodes=91)
    text = graph.explain()
    assert re.search(r"relation +edges +\(src, r\) +\(dst, r\) +side +rows +rows/edge", text)
    assert re.search(r"\n +0 +90 +1 +90 +src +6 +0.067\n", text)
    assert re.search(r"\n +1 +0 +0 +0 +src +0 +-\n", text)
    assert re.search(r"\n +all +91 +2 +91 +7 +0.077\n2 tiles of 64 rows hold 7 rows\n", text)
    assert "attention shares its tiles with the sums" in text
    assert "outgoing: 1 heavy nodes (more than 16 edges), the longest of 90" in text
    unique = {id(leaf): leaf.nbytes for leaf in jax.tree.leaves(graph)}
    total = sum(unique.values()) - graph.relation_counts.nbytes
    assert re.search(rf"plan +{total:,} B \(", text)
    assert "room for" in small(num_relations=2, pad_to={"num_nodes": 9, "num_edges": 9}).explain()


def test_explain_of_many_relations_and_of_one_side():
    text = RelGraph.from_edges([0] * 50, [1] * 50, range(50), num_nodes=2).explain()
    assert "10 more" in text
    text = RelGraph.from_edges([0, 1, 2], [0, 0, 0], [0, 0, 0], num_nodes=3).explain()
    assert re.search(r"\n +0 +3 +3 +1 +dst +1 +0.333\n", text)


def test_explain_and_save_need_values(tmp_path):
    for name, call in (("explain", RelGraph.explain), ("save", lambda g: g.save(tmp_path / "g"))):
        with pytest.raises(TypeError, match=f"RelGraph.{name}: needs values, got tracers"):
            jax.jit(call)(small())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention": False},
        {"ntype": np.arange(60) % 3},
        {"compaction": "src"},
        {"pad_to": {"num_nodes": 70, "num_edges": 600}},
    ],
)
def test_save_and_load(tmp_path, options):
    graph = random_graph(3, **options)
    graph.save(tmp_path / "plan.npz")
    graph.save(tmp_path / "plan.npz")  # over the old one
    loaded = RelGraph.load(str(tmp_path / "plan.npz"))
    assert_same(loaded, graph)
    assert os.listdir(tmp_path) == ["plan.npz"]
    if graph.attention is not None:
        shared = graph.attention.src_tiles is graph.sums.tiles
        assert (loaded.attention.src_tiles is loaded.sums.tiles) == shared
    assert loaded.explain() == graph.explain()


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "plan.npz"
    small().save(path)
    before = path.read_bytes()

    def full(stream, **_):
        stream.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("numpy.savez", full)
    with pytest.raises(OSError, match="No space"):
        random_graph(0).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["plan.npz"]


def test_bad_files(tmp_path):
    path = tmp_path / "plan.npz"

    def refused(message):
        with pytest.raises(ValueError, match=re.escape(f"RelGraph.load: {path}: ") + message):
            RelGraph.load(path)

    refused("no such file")
    path.write_bytes(b"")
    refused("truncated or corrupt")
    path.write_bytes(b"hello, world")
    refused("not a RelGraph; write one with RelGraph.save")
    np.savez(path, header=np.arange(3), x=np.arange(3))
    refused("not a RelGraph")
    np.savez(path, header=np.array("{"))
    refused("not a RelGraph")
    random_graph(0).save(path)
    data = path.read_bytes()
    for size in (len(data) // 2, len(data) - 7, 100):
        path.write_bytes(data[:size])
        refused("truncated or corrupt")
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :])
    refused("truncated or corrupt")
    path.write_bytes(data)
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(str(arrays["header"]))
    np.savez(path, **(arrays | {"header": np.array(json.dumps(header | {"version": 9}))}))
    refused("written in version 9 of the format, this jaxdirect reads version 1; build")
    del arrays["graph.sums.into.indptr"]
    np.savez(path, **arrays)
    refused("incomplete or damaged .*graph.sums.into.indptr")
    header["fields"]["sums"] = 3
    np.savez(path, **(arrays | {"header": np.array(json.dumps(header))}))
    refused("incomplete or damaged")
