"""Debian's package index: a small one by hand, and this machine's own where it has one."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import subprocess
import zlib

import numpy as np
import pytest

from jaxdirect.data import _index, debian_packages, relational_floors

INDEX = """\
Package: libvi-dev
Source: vi (1:2.0)
Section: libdevel
Priority: optional
Architecture: amd64
Maintainer: Ann Example <ann@example.org>
Pre-Depends: libvi1 (= 2.0)
Description: editor library, headers
 A long text about Debian that is no feature.
Tag: role::devel-lib, devel::library,
 works-with::text

Package: vi
Architecture: amd64
Depends: libvi1 (>= 1), libvi1 (<< 3), python3:any | perl, editor-data
Built-Using: gcc-12 (= 12.2.0-14)
Maintainer: Ann Example <ann@example.org>
Provides: editor (= 2.0),
Section: non-free/editors
Tag: role::program
Description: Editor

Package: libvi1
Source: vi
Section: libs
Architecture: all
Description: editor library

Package: perl
Section: libs

Package: vi
Section: games
Description: an older copy of the same name

Package: zz
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "Packages"
    path.write_text(INDEX)
    return path


def named_edges(graph):
    name = graph.node_names
    return {
        (graph.relation_names[r], name[s], name[d])
        for s, d, r in zip(graph.src, graph.dst, graph.etype, strict=True)
    }


def test_small_index(path):
    graph = debian_packages(path, feature_dim=64)
    packages = ("libvi-dev", "libvi1", "perl", "vi", "zz")
    others = ("editor", "editor-data", "python3", "gcc-12", "Ann Example <ann@example.org>")
    assert graph.node_names == (*packages, *others, "all", "amd64")
    assert graph.type_names == ("package", "virtual", "source", "maintainer", "architecture")
    assert graph.ntype.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 4, 4]
    ann = "Ann Example <ann@example.org>"
    assert named_edges(graph) == {
        ("depends", "vi", "libvi1"),
        ("depends", "vi", "python3"),
        ("depends", "vi", "perl"),
        ("depends", "vi", "editor-data"),
        ("pre_depends", "libvi-dev", "libvi1"),
        ("provides", "vi", "editor"),
        ("built_using", "vi", "gcc-12"),
        ("maintainer", "libvi-dev", ann),
        ("maintainer", "vi", ann),
        ("architecture", "libvi-dev", "amd64"),
        ("architecture", "vi", "amd64"),
        ("architecture", "libvi1", "all"),
    }
    assert graph.num_edges == 12  # "libvi1 (>= 1), libvi1 (<< 3)" is one edge
    assert graph.class_names == ("editors", "libdevel", "libs")
    assert graph.labels.tolist() == [1, 2, 2, 0, -1, *[-1] * 7]


def test_relations_do_not_depend_on_the_index(path):
    assert debian_packages(path).relation_names == (
        "depends",
        "pre_depends",
        "recommends",
        "suggests",
        "enhances",
        "breaks",
        "conflicts",
        "replaces",
        "provides",
        "built_using",
        "maintainer",
        "architecture",
    )


def test_fields_that_tell_too_much_are_asked_for(path):
    graph = debian_packages(path, all_fields=True)
    assert graph.relation_names[12:] == (
        "source",
        "priority",
        "tag_devel",
        "tag_role",
        "tag_works-with",
    )
    assert graph.type_names[5:] == ("priority", "tag")
    more = named_edges(graph) - named_edges(debian_packages(path))
    assert more == {
        *(("source", name, "vi") for name in ("vi", "libvi-dev", "libvi1")),
        *(("source", name, name) for name in ("perl", "zz")),
        ("priority", "libvi-dev", "optional"),
        ("tag_devel", "libvi-dev", "devel::library"),
        ("tag_role", "libvi-dev", "role::devel-lib"),
        ("tag_role", "vi", "role::program"),
        ("tag_works-with", "libvi-dev", "works-with::text"),
    }
    # The source "vi" and the package "vi" are two nodes.
    assert graph.node_names.count("vi") == 2


def _row(text, dim):
    row = np.zeros(dim)
    for word in text.split():
        row[zlib.crc32(word.encode()) % dim] += 1
    return np.sqrt(row / max(row.sum(), 1))


def test_features_are_the_synopsis_alone(path):
    graph = debian_packages(path, feature_dim=256)
    assert graph.features.shape == (graph.num_nodes, 256)
    assert graph.features.ctypes.data % 4096 == 0
    for node, text in enumerate(["editor library headers", "editor library", "", "editor"]):
        np.testing.assert_allclose(graph.features[node], _row(text, 256), rtol=1e-6)
    assert not graph.features[4:].any()


def test_names_as_features(path):
    graph = debian_packages(path, feature_dim=256, name_features=True)
    text = "editor library headers package0lib package0vi package0dev"
    np.testing.assert_allclose(graph.features[0], _row(text, 256), rtol=1e-6)
    assert not graph.features[5:].any()


def test_no_feature_or_edge_changes_with_the_section(path):
    before = debian_packages(path, feature_dim=64, name_features=True)
    path.write_text(INDEX.replace("Section: libs", "Section: zope"))
    after = debian_packages(path, feature_dim=64, name_features=True)
    assert "zope" in after.class_names
    for name in ("src", "dst", "etype", "ntype", "features", "train", "valid", "test"):
        assert np.array_equal(getattr(before, name), getattr(after, name)), name


def test_split_is_by_source(tmp_path):
    path = tmp_path / "Packages"
    path.write_text(
        "\n".join(
            f"Package: p{i}-{part}\nSource: s{i} ({part})\nSection: x{i % 3}\n"
            for i in range(50)
            for part in range(1 + i % 4)
        )
    )
    graph = debian_packages(path, feature_dim=1)
    parts = (graph.train, graph.valid, graph.test)
    sources = [{graph.node_names[v].split("-")[0] for v in part} for part in parts]
    assert [len(part) for part in sources] == [40, 5, 5]
    assert not sources[0] & sources[1] | sources[0] & sources[2] | sources[1] & sources[2]
    assert sorted(np.concatenate(parts)) == list(range(graph.num_nodes))
    other = debian_packages(path, feature_dim=1, seed=1)
    assert not np.array_equal(other.test, graph.test)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_packed(tmp_path, path, pack):
    packed = tmp_path / "packed"
    packed.write_bytes(pack(INDEX.encode()))
    assert named_edges(debian_packages(packed)) == named_edges(debian_packages(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected packages, got an empty index; give path="),
        (b"\n\n", "expected packages, got an empty index"),
        (b"Package: a\n\nSection: x\n", r":3: expected a Package field, got only \['Section'\]"),
        (b"Package: a\nnonsense\n", ":2: expected 'Field: value', got 'nonsense'"),
        (b" goes on\n", ":1: expected 'Field: value', got ' goes on'"),
        (b"Package: a\n", "no package has a Section"),
        (b"\x04\x22\x4d\x18rest", "packed by lz4; unpack it first: lz4 -d"),
        (b"\x28\xb5\x2f\xfdrest", "packed by zstd; unpack it first: zstd -d"),
        (gzip.compress(INDEX.encode(), mtime=0)[:40], "truncated or corrupt"),
        (lzma.compress(INDEX.encode())[:40], "truncated or corrupt"),
        (bz2.compress(INDEX.encode())[:40], "truncated or corrupt"),
    ],
)
def test_bad_index(path, content, message):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path}:? ?{message}"):
        debian_packages(path)


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match="none: no such file"):
        debian_packages(tmp_path / "none")


@pytest.mark.parametrize(("option", "value"), [("feature_dim", 0), ("seed", -1), ("seed", 1.5)])
def test_bad_options(path, option, value):
    with pytest.raises(ValueError, match=f"debian_packages: {option} must be an integer >= "):
        debian_packages(path, **{option: value})


def test_no_apt_cache(monkeypatch):
    monkeypatch.setattr(_index.shutil, "which", lambda _: None)
    with pytest.raises(ValueError, match=r"has no apt-cache; give path=.*Packages\.xz"):
        debian_packages()


@pytest.mark.parametrize(
    ("code", "output", "error", "why"),
    [(0, "", "", "it printed nothing"), (100, INDEX, "E: broken", "E: broken")],
)
def test_apt_cache_fails(monkeypatch, code, output, error, why):
    done = subprocess.CompletedProcess([], code, output.encode(), error.encode())
    monkeypatch.setattr(_index.shutil, "which", lambda _: "/bin/apt-cache")
    monkeypatch.setattr(_index.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(ValueError, match=f"apt-cache dumpavail: {why}; run apt-get update, or"):
        debian_packages()


def _machine_index():
    command = shutil.which("apt-cache")
    if command is None:
        return "no apt-cache on this machine"
    run = subprocess.run([command, "dumpavail"], capture_output=True, check=False)
    found = run.stdout.count(b"\nPackage: ")
    return "" if found > 50_000 else f"apt-cache knows {found} packages; run apt-get update"


def test_this_machine():
    why_not = _machine_index()
    if why_not:
        pytest.skip(why_not)
    graph = debian_packages(feature_dim=8)
    counts = np.bincount(graph.ntype)
    assert graph.num_relations == 12
    assert 40 <= graph.num_classes <= 80
    assert graph.num_edges > 400_000
    assert counts[0] > 50_000
    assert counts[1] > 10_000
    assert (graph.labels[: counts[0]] >= 0).mean() > 0.99
    share = np.array([graph.train.size, graph.valid.size, graph.test.size]) / counts[0]
    np.testing.assert_allclose(share, [0.8, 0.1, 0.1], atol=0.02)
    got = relational_floors(graph)
    assert 0.08 < got.majority < 0.15
    assert 0.40 < got.label_vote < 0.55
    assert got.label_vote < got.label_bayes < got.node_bayes < 0.80
