"""The shipped WordNet data set, and the script that builds it."""

from __future__ import annotations

import hashlib
import importlib.util
import zlib
from pathlib import Path

import numpy as np
import pytest

from jaxdirect.data import floors, wordnet
from jaxdirect.data.wordnet import hash_lines

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "jaxdirect" / "data" / "wordnet"


@pytest.fixture(scope="module")
def graph():
    return wordnet(feature_dim=64)


def test_counts(graph):
    assert graph.num_nodes == 117_659
    assert len(graph.node_names) == 117_659
    assert graph.src.size == graph.dst.size == graph.etype.size == 377_592
    assert len(graph.relation_names) == np.unique(graph.etype).size == 26
    assert graph.num_classes == np.unique(graph.labels).size == 45
    assert [part.size for part in (graph.train, graph.valid, graph.test)] == [
        94_127,
        11_766,
        11_766,
    ]
    with np.load(SHIPPED / "wordnet.npz") as archive:
        lexical = np.unpackbits(archive["pointer_lexical"], count=377_592).sum()
    assert (377_592 - lexical, lexical) == (285_348, 92_244)


def test_a_known_synset(graph):
    names = np.array(graph.node_names)
    dog = int(np.flatnonzero(names == "dog")[0])
    assert graph.class_names[graph.labels[dog]] == "noun.animal"
    hypernyms = (graph.src == dog) & (graph.etype == graph.relation_names.index("hypernym"))
    assert set(names[graph.dst[hypernyms]]) == {"canine", "domestic animal"}
    row = graph.indices[graph.indptr[dog] : graph.indptr[dog + 1]]
    assert set(graph.dst[graph.src == dog]) | set(graph.src[graph.dst == dog]) == set(row)


def test_pointer_types_have_their_inverses(graph):
    def pairs(name):
        kept = graph.etype == graph.relation_names.index(name)
        return graph.src[kept].astype(np.int64), graph.dst[kept].astype(np.int64)

    for name, inverse in (("hypernym", "hyponym"), ("part_holonym", "part_meronym")):
        forward, backward = pairs(name), pairs(inverse)
        key = forward[0] * graph.num_nodes + forward[1]
        assert np.array_equal(np.sort(key), np.sort(backward[1] * graph.num_nodes + backward[0]))


def test_features_come_from_the_gloss_alone(graph):
    with np.load(SHIPPED / "wordnet.npz") as archive:
        glosses = archive["glosses"].tobytes().decode().split("\n")
    assert glosses[1] == "an entity that has physical existence"
    for node in (0, 1, 60_000, 117_658):
        expected = np.zeros(64)
        text = "".join(c if c.isascii() and c.isalnum() else " " for c in glosses[node].lower())
        for word in text.split():
            expected[zlib.crc32(word.encode()) % 64] += 1
        expected = np.sqrt(expected) / np.sqrt(expected.sum())
        np.testing.assert_allclose(graph.features[node], expected, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(graph.features, axis=1), 1, rtol=1e-5)
    assert graph.features.ctypes.data % 4096 == 0
    assert graph.features.dtype == np.float32


def test_features_do_not_leak_the_label(graph):
    """No single column tells the class: the best one-word rule stays far below the text floor."""
    train, test = graph.labels[graph.train], graph.labels[graph.test]
    rows = graph.features[graph.train]
    for column in range(rows.shape[1]):
        on = rows[:, column] > np.quantile(rows[:, column], 0.5)
        guess = [np.bincount(train[side]).argmax() for side in (~on, on)]
        hit = graph.features[graph.test, column] > np.quantile(rows[:, column], 0.5)
        assert np.mean(np.where(hit, guess[1], guess[0]) == test) < 0.3


def test_splits_are_disjoint_and_seeded(graph):
    parts = np.concatenate([graph.train, graph.valid, graph.test])
    assert np.array_equal(np.sort(parts), np.arange(graph.num_nodes))
    other = wordnet(feature_dim=1, seed=1)
    assert not np.array_equal(other.test, graph.test)
    assert np.array_equal(wordnet(feature_dim=1).test, graph.test)


def test_floors_of_wordnet(graph):
    got = floors(graph)
    assert got.majority == pytest.approx(0.119, abs=0.003)
    assert got.label_vote == pytest.approx(0.712, abs=0.01)
    assert got.coverage == pytest.approx(0.91, abs=0.01)


@pytest.mark.parametrize(
    ("option", "value"), [("feature_dim", 0), ("feature_dim", 1.5), ("seed", -1), ("seed", True)]
)
def test_bad_options(option, value):
    with pytest.raises(ValueError, match=f"wordnet: {option} must be an integer >= .*{value}"):
        wordnet(**{option: value})


def test_words_do_not_cross_lines():
    rows = hash_lines(b"ab\ncd\n\nAB-ab", 1 << 12)
    assert rows.shape == (4, 1 << 12)
    assert np.array_equal(rows[0], rows[3])
    assert not np.array_equal(rows[0], rows[1])
    assert not rows[2].any()


# --- the build script, on a database of four synsets in WordNet's format

NOTICE = "  1 a licence line  \n"
DATA = {
    "noun": NOTICE
    + '00000020 03 n 01 dog 0 001 @ 00000099 n 0000 | a pet; "café"  \n'
    + "00000099 03 n 02 living_thing 0 being 0 002 ~ 00000020 n 0000 + 00000020 v 0101 | alive  \n",
    "verb": NOTICE + "00000020 04 v 01 live 0 001 + 00000099 n 0101 02 + 02 00 + 08 00 | to be  \n",
    "adj": NOTICE + "00000020 00 a 01 alive(p) 0 000 | not dead  \n",
    "adv": NOTICE,
}
LEXNAMES = "00\tadj.all\t3\n01\tadj.pert\t3\n02\tadv.all\t4\n03\tnoun.Tops\t1\n04\tverb.x\t2\n"
COPYRIGHT = (
    "Format: x\n\nFiles: *\nCopyright: P\nLicense: W\n Be\n .\n kind.\n\nFiles: debian/*\n no\n"
)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for part, text in DATA.items():
        (folder / f"data.{part}").write_text(text, encoding="utf-8")
    (folder / "lexnames").write_text(LEXNAMES)
    (folder / "copyright").write_text(COPYRIGHT)
    return folder


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("bw", ROOT / "scripts" / "build_wordnet.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_build_script(script, source, tmp_path):
    digests = set()
    for name in ("one", "two"):
        assert script.main(["--source", str(source), "--output", str(tmp_path / name)]) == 0
        data = (tmp_path / name / "wordnet.npz").read_bytes()
        digests.add(hashlib.sha256(data).hexdigest())
    assert len(digests) == 1
    with np.load(tmp_path / "one" / "wordnet.npz") as built:
        assert built["words"].tobytes() == b"dog\nliving thing\nlive\nalive"
        assert built["glosses"].tobytes().decode() == 'a pet; "café"\nalive\nto be\nnot dead'
        assert built["labels"].tolist() == [3, 3, 4, 0]
        assert built["class_names"].tolist() == [line.split()[1] for line in LEXNAMES.splitlines()]
        assert built["pointer_counts"].tolist() == [1, 2, 1, 0]
        assert built["pointer_targets"].tolist() == [1, 0, 2, 1]
        names = built["pointer_names"][built["pointer_types"]].tolist()
        assert names == ["hypernym", "hyponym", "derivation", "derivation"]
        assert np.unpackbits(built["pointer_lexical"], count=4).tolist() == [0, 0, 1, 1]
    licence = (tmp_path / "one" / "LICENSE").read_text()
    assert "Copyright: P\n\nBe\n\nkind.\n" in licence
    assert "no" not in licence.split("\n")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "data.noun",
            "00000099 n 0000",
            "00000098 n 0000",
            "synset 00000020: bad pointer @ 00000098",
        ),
        ("data.noun", "001 @", "001 ?", r"bad pointer \? 00000099"),
        ("data.adj", " | ", " / ", "data.adj:2: no gloss"),
        ("lexnames", "01\tadj.pert", "07\tadj.pert", "no file or manual page 'lexnames'"),
    ],
)
def test_build_script_refuses(script, source, tmp_path, file, old, new, message):
    path = source / file
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SystemExit, match=message):
        script.main(["--source", str(source), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["data.noun", "copyright"])
def test_build_script_misses_a_file(script, source, tmp_path, file):
    (source / file).unlink()
    with pytest.raises(SystemExit, match=f"no file '{file}'"):
        script.main(["--source", str(source), "--output", str(tmp_path / "out")])
