"""Debian's package index as a node classification task: which section is a package in?"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxdirect.data import _checks
from jaxdirect.data._index import Record, read_index, records
from jaxdirect.data.graph import random_split
from jaxdirect.data.relational import RelationalGraph
from jaxdirect.data.wordnet import hash_lines

_LISTS = (
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Enhances",
    "Breaks",
    "Conflicts",
    "Replaces",
    "Provides",
    "Built-Using",
)
_SINGLES = ("Maintainer", "Architecture")
_TELLTALE = ("Source", "Priority")
_TYPES = ("package", "virtual", "source", "maintainer", "architecture")
_MORE_TYPES = ("priority", "tag")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*")

_Fact = tuple[str, str, str]  # relation, type of the target, name of the target
_PIECE = re.compile(r"^lib|[a-z]+|[0-9]+")


def debian_packages(
    path: str | os.PathLike[str] | None = None,
    *,
    feature_dim: int = 1024,
    seed: int = 0,
    name_features: bool = False,
    all_fields: bool = False,
) -> RelationalGraph:
    """The graph of a Debian release: about 63 000 packages, 12 relations, 58 sections to tell.

    Nodes are packages, then names that only relations mention (virtual packages), source packages
    that code was built from, maintainers and architectures, each group in the order of its names.
    An edge runs from a package to what its field names, once per field; alternatives ("a | b") all
    count, versions do not. The fields are Depends, Pre-Depends, Recommends, Suggests, Enhances,
    Breaks, Conflicts, Replaces, Provides, Built-Using, Maintainer and Architecture. Section is the
    label ("non-free/libs" is "libs"); Tag, Priority and Source would tell too much and are left
    out. All packages of one source are in the same part of the split, for they are nearly copies.

    Features are the words of the synopsis, that is the first line of the description, hashed as
    those of `wordnet` are; nodes that are no packages have rows of zeros. Names sort by topic, so
    an id must not be used as a feature.

    Args:
        path: a Packages file, plain or packed by gzip, xz or bzip2; None asks this machine's
            `apt-cache dumpavail`, so sizes depend on its sources.list and what is installed.
        feature_dim: number of bins, that is columns of `features`; at least 1.
        seed: of the 80/10/10 split of the source packages; not negative.
        name_features: if True, features also hold the pieces of the package's name ("lib", "dev",
            "python"), apart from the words: a strong hint, since names follow sections.
        all_fields: if True, Source, Priority and one relation per facet of Tag are edges too (45
            relations). For measuring speed: the accuracy means nothing.

    Returns:
        `RelationalGraph` with float32 features `[num_nodes, feature_dim]` in page-aligned memory.

    Raises:
        ValueError: if there is no index, a line of it is bad, or an option is out of range.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "Packages"
        >>> _ = path.write_text(
        ...     "Package: ed\\nSection: editors\\nDepends: libc6|libc\\nDescription: editor\\n\\n"
        ...     "Package: libc6\\nSection: libs\\nProvides: libc\\nDescription: C library\\n")
        >>> graph = debian_packages(path, feature_dim=8)
        >>> graph.node_names, graph.class_names
        (('ed', 'libc6', 'libc'), ('editors', 'libs'))
        >>> [graph.relation_names[r] for r in graph.etype], graph.src.tolist(), graph.dst.tolist()
        (['depends', 'depends', 'provides'], [0, 0, 1], [1, 2, 2])
    """
    feature_dim = _checks.option("debian_packages", "feature_dim", feature_dim, 1)
    seed = _checks.option("debian_packages", "seed", seed, 0)
    path = None if path is None else Path(path)
    where = "apt-cache dumpavail" if path is None else str(path)
    packages = records(read_index(path), where)

    sections = [record.get("Section", "").rpartition("/")[2] for record in packages]
    class_names = sorted(set(sections) - {""})
    codes = {"": -1} | {name: code for code, name in enumerate(class_names)}
    labels = np.array([codes[section] for section in sections], np.int32)
    if not class_names:
        raise ValueError(f"{where}: no package has a Section; give an index that holds them")

    facts = [
        (source, fact)
        for source, record in enumerate(packages)
        for fact in _facts(record, all_fields)
    ]
    types = (*_TYPES, *(_MORE_TYPES if all_fields else ()))
    names, ntype, ids = _number([record["Package"] for record in packages], facts, types)
    fields = (*_LISTS, *_SINGLES, *(_TELLTALE if all_fields else ()))
    relations = [name.lower().replace("-", "_") for name in fields]
    relations += sorted({relation for _, (relation, _, _) in facts} - set(relations))
    code = {relation: r for r, relation in enumerate(relations)}
    triples = {
        (code[relation], source, ids[kind, name]) for source, (relation, kind, name) in facts
    }
    etype, src, dst = np.array(sorted(triples), np.int32).reshape(-1, 3).T.copy()

    text = "\n".join(_words(record, name_features) for record in packages)
    others = len(names) - len(packages)
    train, valid, test = _split_by_source(packages, labels, seed)
    return RelationalGraph(
        src=src,
        dst=dst,
        etype=etype,
        num_nodes=len(names),
        relation_names=tuple(relations),
        ntype=ntype,
        type_names=types,
        features=hash_lines((text + "\n" * others).encode(), feature_dim),
        labels=np.pad(labels, (0, others), constant_values=-1),
        train=train,
        valid=valid,
        test=test,
        class_names=tuple(class_names),
        node_names=names,
    )


def _facts(record: Record, all_fields: bool) -> Iterator[_Fact]:
    """What a package points to."""
    for field in _LISTS:
        kind = "source" if field == "Built-Using" else "virtual"
        for item in re.split(r"[,|]", record.get(field, "")):
            match = _NAME.match(item.strip())
            if match:
                yield field.lower().replace("-", "_"), kind, match.group()
    for field in (*_SINGLES, *(("Priority",) if all_fields else ())):
        if record.get(field):
            yield field.lower(), field.lower(), record[field]
    if all_fields:
        yield "source", "source", _source(record)
        for tag in filter(None, map(str.strip, record.get("Tag", "").split(","))):
            yield f"tag_{tag.partition('::')[0]}", "tag", tag


def _number(
    packages: list[str], facts: list[tuple[int, _Fact]], types: tuple[str, ...]
) -> tuple[tuple[str, ...], np.ndarray, dict[tuple[str, str], int]]:
    """Names and types of all nodes, and their ids by (kind, name) as the facts have them."""
    ids = {("virtual", name): node for node, name in enumerate(packages)}
    found = {(types.index(kind), name) for _, (_, kind, name) in facts if (kind, name) not in ids}
    others = sorted(found)
    for node, (code, name) in enumerate(others, len(packages)):
        ids[types[code], name] = node
    ntype = np.array([0] * len(packages) + [code for code, _ in others], np.int32)
    return (*packages, *(name for _, name in others)), ntype, ids


def _words(record: Record, name_features: bool) -> str:
    words = record.get("Description", "").partition("\n")[0]
    if name_features:
        # The prefix keeps pieces of the name and words of the synopsis in bins of their own.
        words += "".join(f" package0{piece}" for piece in _PIECE.findall(record["Package"]))
    return words


def _source(record: Record) -> str:
    """The source package, "name (version)" without the version."""
    return (record.get("Source", "").split() or [record["Package"]])[0]


def _split_by_source(packages: list[Record], labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """Labelled packages by the part that their source is in, in id order."""
    sources = np.array([_source(record) for record in packages])
    names, owner = np.unique(sources, return_inverse=True)
    parts = random_split(np.arange(names.size), seed)
    part_of = np.zeros(names.size, np.int8)
    for part, ids in enumerate(parts):
        part_of[ids] = part
    return [np.flatnonzero((part_of[owner] == part) & (labels >= 0)) for part in range(3)]
