"""A user's own files: every form, and a sentence for every way they can be bad."""

from __future__ import annotations

import io
import os
import re
from unittest import mock

import numpy as np
import pytest

from jaxdirect.data import from_files

EDGES = np.array([[0, 1], [2, 1], [3, 4]])
FEATURES = np.arange(12, dtype=np.float32).reshape(6, 2)
LABELS = np.array([0, 1, 1, 0, 2, -1])


@pytest.fixture
def save(tmp_path):
    """save(edges=..., features=..., labels=...) writes files; returns the three paths."""
    paths = {}

    def put(name, suffix, content):
        paths[name] = tmp_path / f"{name}{suffix}"
        if isinstance(content, dict):
            np.savez(paths[name], **content)
        elif isinstance(content, np.ndarray):
            np.save(paths[name], content)
        else:
            paths[name].write_bytes(content if isinstance(content, bytes) else content.encode())

    def save(**files):
        for name, content in files.items():
            suffix, content = content if isinstance(content, tuple) else (".npy", content)
            put(name, ".npz" if isinstance(content, dict) else suffix, content)
        return paths["edges"], paths["features"], paths["labels"]

    save(edges=EDGES, features=FEATURES, labels=LABELS)
    return save


def _bytes(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _npz(**arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


@pytest.mark.parametrize(
    "edges",
    [
        EDGES,
        EDGES.T.copy(),
        EDGES.astype(">i2"),
        np.asfortranarray(EDGES),
        {"src": EDGES[:, 0], "dst": EDGES[:, 1]},
        {"edge_index": EDGES.T},
        (".txt", "# source target\n0 1\n\n2\t1 # why\r\n3 4"),
        (".csv", "source,target\n0,1\n2, 1\n3,4\n"),
        (".csv", "0,1\n2,1\n3,4\n"),
    ],
)
def test_edges_in_every_form(save, edges):
    graph = from_files(*save(edges=edges))
    assert graph.indptr.tolist() == [0, 1, 3, 4, 5, 6, 6]
    assert graph.indices.tolist() == [1, 0, 2, 1, 4, 3]
    assert graph.indptr.dtype == graph.indices.dtype == graph.labels.dtype == np.int32
    assert np.array_equal(np.stack([graph.src, graph.dst], 1), EDGES)
    assert graph.class_names == ("0", "1", "2")
    assert graph.relation_names == ("edge",)


def test_two_lines_of_text_are_not_transposed(save):
    graph = from_files(*save(edges=(".txt", "0 1\n2 3\n")))
    assert (graph.src.tolist(), graph.dst.tolist()) == ([0, 2], [1, 3])


def test_directed_and_edge_types(save):
    edges = {"edge_index": EDGES.T, "etype": np.array([0, 300, 1])}
    graph = from_files(*save(edges=edges), directed=True)
    assert graph.indices.tolist() == [0, 2, 3]
    assert graph.etype.tolist() == [0, 300, 1]
    assert graph.relation_names == tuple(map(str, range(301)))


def test_csr_is_taken_as_it_is(save):
    rows = {"indptr": np.array([0, 2, 2, 2, 3, 3, 3]), "indices": np.array([1, 1, 3])}
    graph = from_files(*save(edges=rows))
    assert graph.indptr.tolist() == rows["indptr"].tolist()
    assert graph.src.tolist() == graph.indices.tolist() == [1, 1, 3]
    assert graph.dst.tolist() == [0, 0, 3]


@pytest.mark.parametrize(
    "labels", [LABELS, LABELS[:, None], {"labels": LABELS}, (".txt", "0\n1\n1\n0\n2\n-1\n")]
)
def test_labels_in_every_form(save, labels):
    graph = from_files(*save(labels=labels))
    assert graph.labels.tolist() == LABELS.tolist()
    split = np.concatenate([graph.train, graph.valid, graph.test])
    assert sorted(split) == [0, 1, 2, 3, 4]


def test_given_splits(save):
    mask = np.array([False, False, True, False, False, False])
    graph = from_files(
        *save(labels={"labels": LABELS, "train": [3, 0], "valid": [1], "test": mask})
    )
    assert (graph.train.tolist(), graph.valid.tolist(), graph.test.tolist()) == ([3, 0], [1], [2])


def test_writable_features_are_mapped_not_copied(save):
    paths = save()
    graph = from_files(*paths)
    assert isinstance(graph.features, np.memmap)
    assert graph.features.mode == "r+"
    assert np.array_equal(graph.features, FEATURES)
    assert paths[1].read_bytes() == _bytes(FEATURES)


@pytest.mark.parametrize(
    "features",
    [
        FEATURES.astype(">f4"),
        np.asfortranarray(FEATURES),
        {"features": FEATURES},
        (".npz", _npz(x=FEATURES)),
    ],
)
def test_other_features_are_read_into_aligned_memory(save, features):
    graph = from_files(*save(features=features))
    assert graph.features.dtype == np.float32
    assert graph.features.dtype.isnative
    assert graph.features.ctypes.data % 4096 == 0
    assert graph.features.flags.c_contiguous
    assert np.array_equal(graph.features, FEATURES)


def test_unwritable_features_are_read(save):
    with mock.patch.object(os, "access", return_value=False):
        graph = from_files(*save())
    assert not isinstance(graph.features, np.memmap)
    assert graph.features.ctypes.data % 4096 == 0
    assert np.array_equal(graph.features, FEATURES)


def test_a_truncated_npy_is_refused_and_left_alone(save):
    short = _bytes(FEATURES)[:-5]
    paths = save(features=(".npy", short))
    with pytest.raises(ValueError, match=r"features\.npy: truncated: 48 bytes .* got 43"):
        from_files(*paths)
    assert paths[1].read_bytes() == short


NAN = np.where(np.arange(12).reshape(6, 2) == 7, np.nan, 0).astype(np.float32)
SPLIT = {"labels": LABELS, "train": np.array([0]), "valid": np.array([1]), "test": np.array([2])}
ROWS = {"indptr": np.array([0, 2, 2, 2, 3, 3, 3]), "indices": np.array([1, 1, 3])}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        # text
        (
            {"edges": (".txt", "0 1\n" * 16 + "a b\n")},
            "edges.txt:17: expected two integers, got 'a b'",
        ),
        ({"edges": (".txt", "0 1\n2\n")}, "edges.txt:2: expected two integers, got '2'"),
        ({"edges": (".txt", "0 1 2\n0 1 2\n")}, "edges.txt:1: expected two integers, got '0 1 2'"),
        ({"edges": (".txt", "0 1.5\n")}, "edges.txt:1: expected two integers, got '0 1.5'"),
        ({"edges": (".txt", "0 1.0\n")}, "edges.txt:1: expected two integers, got '0 1.0'"),
        ({"edges": (".txt", "0,1\n0 1\n")}, "edges.txt:2: expected two integers, got '0 1'"),
        (
            {"edges": (".txt", "0 1\n0 99999999999999999999\n")},
            "edges.txt:2: expected two integers",
        ),
        ({"edges": (".txt", b"0 1\n\xff\xfe 2\n")}, "edges.txt:2: expected two integers"),
        ({"edges": (".csv", "a,b\n0,1\n0,x\n")}, "edges.csv:3: expected two integers, got '0,x'"),
        ({"edges": (".txt", "# nothing\n")}, "edges.txt: empty; expected lines of integers"),
        ({"labels": (".txt", "0\n1\ndog\n")}, "labels.txt:3: expected one integer, got 'dog'"),
        # broken files
        ({"edges": (".npz", _npz(src=EDGES)[:60])}, "edges.npz: truncated or corrupt"),
        ({"features": (".npz", b"PK")}, "features.npz: truncated or corrupt"),
        ({"labels": (".npy", b"")}, "labels.npy: not a whole .npy array"),
        ({"labels": (".npy", b"text")}, "labels.npy: not a whole .npy array"),
        ({"labels": (".npy", _bytes(LABELS)[:-1])}, "labels.npy: truncated: 48 bytes"),
        ({"labels": np.array(["a", None])}, "labels.npy: expected numbers, got dtype object"),
        ({"edges": {"a": LABELS, "b": LABELS}}, "edges.npz: expected 'edge_index', or 'src'"),
        (
            {"features": {"a": LABELS, "b": LABELS}},
            "features.npz: expected 'features', got ['a', 'b']",
        ),
        # features
        ({"features": (".txt", "1 2")}, "features: expected an .npy or .npz file, got"),
        ({"features": np.zeros(6)}, "features: expected [num_nodes, feature_dim], got (6,)"),
        ({"features": np.zeros((6, 0))}, "features: expected [num_nodes, feature_dim], got (6, 0)"),
        ({"features": np.zeros((6, 2), int)}, "features: expected floats, got int64"),
        ({"features": NAN}, "features: row 3 holds a NaN or an infinity"),
        # edges
        ({"edges": EDGES.astype(float)}, "src: expected integers, got float64"),
        (
            {"edges": np.zeros((3, 3), int)},
            "edges: expected [2, num_edges] or [num_edges, 2], got (3, 3)",
        ),
        ({"edges": EDGES + 2}, "dst: expected values in [0, 6), got 6 at position 2"),
        ({"edges": EDGES - 1}, "src: expected values in [0, 6), got -1 at position 0"),
        ({"edges": {"src": LABELS, "dst": LABELS[1:]}}, "src: has shape (6,) but dst has (5,)"),
        ({"edges": {"src": EDGES, "dst": EDGES}}, "src: expected a 1-D array, got shape (3, 2)"),
        (
            {"edges": {"edge_index": EDGES.T, "etype": np.array([0, 1 << 16, 0])}},
            "etype: expected values in [0, 65536), got 65536 at position 1",
        ),
        (
            {"edges": {"edge_index": EDGES.T, "etype": np.array([0])}},
            "etype: has 1 entries but src has 3",
        ),
        (
            {"edges": {**ROWS, "indptr": ROWS["indptr"][1:]}},
            "indptr: has 6 entries but features has 6",
        ),
        (
            {"edges": {**ROWS, "indptr": np.array([0, 2, 1, 2, 3, 3, 3])}},
            "indptr: must rise from 0 to 3, the length of indices, but entry 2 is smaller",
        ),
        (
            {"edges": {**ROWS, "indptr": np.array([0, 2, 2, 2, 2, 2, 2])}},
            "indptr: must rise from 0 to 3, the length of indices, but starts at 0 and ends at 2",
        ),
        (
            {"edges": {**ROWS, "indices": np.array([1, 6, 3])}},
            "indices: expected values in [0, 6), got 6",
        ),
        # labels and splits
        ({"labels": LABELS[:5]}, "labels: has 5 entries but features has 6 rows"),
        (
            {"labels": LABELS - 1},
            "labels: expected values in [-1, 2147483647), got -2 at position 5",
        ),
        ({"labels": LABELS.astype(float)}, "labels: expected integers, got float64"),
        ({"labels": np.full(6, -1)}, "labels: every node is unlabelled"),
        ({"labels": {"labels": LABELS, "train": [0]}}, "has ['train'] but not ['valid', 'test']"),
        ({"labels": {**SPLIT, "test": [5]}}, "test: node 5 at position 0 is unlabelled"),
        ({"labels": {**SPLIT, "test": [2, 0]}}, "test: node 0 at position 1 is in train too"),
        ({"labels": {**SPLIT, "valid": [1, 1]}}, "valid: names a node twice"),
        (
            {"labels": {**SPLIT, "train": [6]}},
            "train: expected values in [0, 6), got 6 at position 0",
        ),
        ({"labels": {**SPLIT, "train": [True]}}, "train: mask has shape (1,), expected (6,)"),
    ],
)
def test_bad_files(save, files, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        from_files(*save(**files))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_missing_file(save, which):
    paths = save()
    paths[which].unlink()
    with pytest.raises(ValueError, match=re.escape(f"{paths[which]}: no such file")):
        from_files(*paths)


def test_features_may_go_unchecked(save):
    assert np.isnan(from_files(*save(features=NAN), check_finite=False).features[3, 1])
