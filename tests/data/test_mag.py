"""The layout of ogbn-mag on disk, in small."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from jaxdirect.data import ogbn_mag

RELATIONS = "raw/relations"
FILES = {
    "raw/num-node-dict": "author,institution,paper\n3,1,4\n",
    "raw/nodetype-has-label": "author,institution,paper\nFalse,False,True\n",
    f"{RELATIONS}/author___affiliated_with___institution/edge": "0,0\n2,0\n",
    f"{RELATIONS}/author___writes___paper/edge": "0,3\n1,2\n2,0\n",
    f"{RELATIONS}/paper___cites___paper/edge": "0,1\n3,2\n",
    "raw/node-label/paper/node-label": "1\n0\n2\n1\n",
    "raw/node-feat/paper/node-feat": "0.5,1\n-1e-3,2\n0.25,3\n0,4\n",
    "split/time/paper/train": "0\n1\n",
    "split/time/paper/valid": "2\n",
    "split/time/paper/test": "3\n",
}
FEATURES = "raw/node-feat/paper/node-feat"


@pytest.fixture
def write(tmp_path):
    """write({name: text or bytes or None}) lays the files out and returns the root."""

    def write(changes=None, folder=""):
        for name, text in (FILES | (changes or {})).items():
            path = tmp_path / folder / f"{name}.csv.gz"
            if text is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text if isinstance(text, bytes) else gzip.compress(text.encode()))
        return tmp_path

    return write


@pytest.mark.parametrize("folder", ["", "ogbn_mag", "mag"])
def test_layout(write, folder):
    graph = ogbn_mag(write(folder=folder))
    assert graph.type_names == ("paper", "author", "institution")
    assert graph.ntype.tolist() == [0] * 4 + [1] * 3 + [2]
    assert graph.relation_names == ("affiliated_with", "writes", "cites")
    assert graph.src.tolist() == [4, 6, 4, 5, 6, 0, 3]
    assert graph.dst.tolist() == [7, 7, 3, 2, 0, 1, 2]
    assert graph.etype.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert graph.labels.tolist() == [1, 0, 2, 1, -1, -1, -1, -1]
    assert graph.num_classes == 3
    expected = np.array([[0.5, 1], [-1e-3, 2], [0.25, 3], [0, 4]], np.float32)
    assert np.array_equal(graph.features, expected)
    assert graph.features.ctypes.data % 4096 == 0
    parts = (graph.train, graph.valid, graph.test)
    assert [part.tolist() for part in parts] == [[0, 1], [2], [3]]
    assert graph.src.flags.c_contiguous


def test_one_relation_name_between_many_types(write):
    changes = {f"{RELATIONS}/author___cites___paper/edge": "0,0\n"}
    graph = ogbn_mag(write(changes))
    assert graph.relation_names[1] == "author___cites___paper"
    assert len(set(graph.relation_names)) == 4


def test_no_features(write):
    assert ogbn_mag(write({FEATURES: None})).features is None


def test_more_features_than_a_chunk(write, monkeypatch):
    monkeypatch.setattr("jaxdirect.data.mag._ROWS", 3)
    assert ogbn_mag(write()).features[:, 1].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("raw/num-node-dict", None, "no such file"),
        ("raw/num-node-dict", "paper\n4\n5\n", "expected a line of names and a line of values"),
        ("raw/num-node-dict", "author,institution,paper\n3,x,4\n", "expected a line of names"),
        ("raw/nodetype-has-label", "paper\nmaybe\n", "expected a line of names"),
        ("raw/nodetype-has-label", "author,paper\nTrue,True\n", "expected one labelled type"),
        ("raw/nodetype-has-label", "book\nTrue\n", r"expected one labelled type .*\['book'\]"),
        (f"{RELATIONS}/paper___cites___paper/edge", "0,1\n0,4\n", r":2: expected values in \[0, 4"),
        (f"{RELATIONS}/author___writes___paper/edge", "3,1\n", r":1: expected .*\[0, 3\), got 3"),
        (f"{RELATIONS}/paper___cites___paper/edge", "0,1\n0;1\n", ":2: expected two integers, got"),
        (f"{RELATIONS}/paper___cites___paper/edge", "", "empty; expected lines of integers"),
        (f"{RELATIONS}/paper___cites___paper/edge", b"no gzip", "truncated or corrupt"),
        ("raw/node-label/paper/node-label", "1\n0\n", "expected 4 lines, got 2"),
        ("raw/node-label/paper/node-label", "1\n0\nx\n1\n", ":3: expected one integer, got 'x'"),
        ("raw/node-label/paper/node-label", "1\n0\n-2\n1\n", r":3: expected values in \[-1, "),
        (FEATURES, "1,2\n1\n1,2\n1,2\n", ":2: expected 2 finite numbers .*got '1'"),
        (FEATURES, "1,2\n1,2\n1,x\n1,2\n", ":3: expected 2 finite numbers"),
        (FEATURES, "1,2\n1,2\n1,2\n1,nan\n", ":4: expected 2 finite numbers"),
        (FEATURES, "1,2\n\n1,2\n1,2\n", ":2: expected 2 finite numbers"),
        (FEATURES, "1,2\n1,2\n", "expected 4 lines, got 2"),
        (FEATURES, "1,2\n" * 5, "expected 4 lines, got more"),
        (FEATURES, gzip.compress(b"1,2\n" * 4, mtime=0)[:-6], "truncated or corrupt"),
        ("split/time/paper/valid", None, "no such file"),
        ("split/time/paper/test", "4\n", r":1: expected values in \[0, 4\), got 4"),
    ],
)
def test_bad_files(write, name, text, message):
    root = write({name: text})
    if text is None:
        (root / f"{name}.csv.gz").unlink(missing_ok=True)
    with pytest.raises(ValueError, match=f"{root / name}.csv.gz:? ?{message}"):
        ogbn_mag(root)


def test_bad_folders(write, tmp_path):
    with pytest.raises(ValueError, match="expected a folder that holds 'raw' or 'ogbn_mag'; unp"):
        ogbn_mag(tmp_path)
    root = write({f"{RELATIONS}/paper___cites___book/edge": "0,0\n"})
    with pytest.raises(ValueError, match=r"paper___cites___book: expected .* with types among"):
        ogbn_mag(root)
    (root / RELATIONS).rename(root / "elsewhere")
    with pytest.raises(ValueError, match="relations: expected folders <source>___<relation>___"):
        ogbn_mag(root)
    (root / "elsewhere").rename(root / RELATIONS)


def test_two_splits(write):
    root = write({"split/random/paper/train": "0\n"})
    with pytest.raises(ValueError, match=r"split: expected one split, .*got 2"):
        ogbn_mag(root)


def test_a_node_in_two_splits(write):
    with pytest.raises(ValueError, match="valid: node 1 at position 0 is in another split too"):
        ogbn_mag(write({"split/time/paper/valid": "1\n"}))
