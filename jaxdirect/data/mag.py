"""ogbn-mag, and data sets laid out as it is, from the files that a user has."""

from __future__ import annotations

import csv
import gzip
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxdirect.data._arrays import named, read_text
from jaxdirect.data.relational import RelationalGraph
from jaxdirect.hostmem.unified import empty

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_ROWS = 1 << 14
_LAYOUT = "unpack https://snap.stanford.edu/ogb/data/nodeproppred/mag.zip there"


def ogbn_mag(root: str | os.PathLike[str]) -> RelationalGraph:
    """The ogbn-mag graph, as the Open Graph Benchmark lays it out on disk.

    Nodes are numbered type after type: first the labelled type (papers, whose ids thus stay OGB's),
    then the others in the order of their names. Relations follow the order of their folders: author
    affiliated_with institution, author writes paper, paper cites paper, paper has_topic
    field_of_study. They run one way; see `RelationalGraph.with_inverses`. Only papers have
    features, so `features` is `[num_papers, 128]`: the rows of the first nodes.

    Args:
        root: the folder that holds `raw` and `split`, or its parent if it is called `ogbn_mag` or
            `mag`. Read are `raw/num-node-dict.csv.gz`, `raw/nodetype-has-label.csv.gz`,
            `raw/relations/<source>___<relation>___<target>/edge.csv.gz`,
            `raw/node-label/paper/node-label.csv.gz`, `raw/node-feat/paper/node-feat.csv.gz` if it
            is there, and `split/time/paper/{train,valid,test}.csv.gz`.

    Returns:
        `RelationalGraph`: for ogbn-mag 1 939 743 nodes of 4 types, 21 111 007 edges of 4 relations,
        349 classes; float32 features in page-aligned memory.

    Raises:
        ValueError: if a file is missing or bad; the message names it, and the line.

    Source: Hu et al., Open Graph Benchmark, NeurIPS 2020; the layout is what OGB's own
        `ogb/io/read_graph_raw.py` reads.

    Example:
        >>> graph = ogbn_mag("dataset")                     # doctest: +SKIP
        >>> graph.num_nodes, graph.features.shape           # doctest: +SKIP
        (1939743, (736389, 128))
    """
    base = _base(Path(root))
    raw = base / "raw"
    counts = {name: int(text) for name, text in _heading(raw / "num-node-dict.csv.gz", str.isdigit)}
    flags = _heading(raw / "nodetype-has-label.csv.gz", ("True", "False").__contains__)
    labelled = [name for name, text in flags if text == "True"]
    if len(labelled) != 1 or labelled[0] not in counts:
        raise ValueError(
            f"{raw / 'nodetype-has-label.csv.gz'}: expected one labelled type among "
            f"{sorted(counts)}, got {labelled}"
        )
    target = labelled[0]
    types = (target, *sorted(set(counts) - {target}))
    sizes = [counts[name] for name in types]
    starts = dict(zip(types, itertools.accumulate(sizes, initial=0), strict=False))
    relation_names, src, dst, etype = _relations(raw / "relations", counts, starts)

    path = raw / "node-label" / target / "node-label.csv.gz"
    labels = _within(path, read_text(path, columns=1), [2**31 - 1], least=-1)[:, 0]
    if labels.size != counts[target]:
        raise ValueError(f"{path}: expected {counts[target]} lines, got {labels.size}")
    train, valid, test = _splits(base / "split", target, counts[target])
    path = raw / "node-feat" / target / "node-feat.csv.gz"
    return RelationalGraph(
        src=src,
        dst=dst,
        etype=etype,
        num_nodes=sum(sizes),
        relation_names=relation_names,
        ntype=np.repeat(np.arange(len(types), dtype=np.int32), sizes),
        type_names=types,
        features=_floats(path, counts[target]) if path.exists() else None,
        labels=np.pad(labels, (0, sum(sizes) - labels.size), constant_values=-1),
        train=train,
        valid=valid,
        test=test,
    )


def _base(root: Path) -> Path:
    for folder in (root, root / "ogbn_mag", root / "mag"):
        if (folder / "raw").is_dir():
            return folder
    raise ValueError(f"{root}: expected a folder that holds 'raw' or 'ogbn_mag'; {_LAYOUT}")


def _heading(path: Path, valid: Callable[[str], bool]) -> list[tuple[str, str]]:
    """(name, value) pairs of a file of one line of names and one of values."""
    with named(path), gzip.open(path, "rt", encoding="utf-8", errors="replace") as stream:
        rows = list(csv.reader(stream))
    if len(rows) != 2 or len(rows[0]) != len(rows[1]) or not all(map(valid, rows[1])):
        raise ValueError(f"{path}: expected a line of names and a line of values, got {rows[:3]}")
    return list(zip(*rows, strict=True))


def _relations(
    folder: Path, counts: dict[str, int], starts: dict[str, int]
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
    """Names, src, dst and etype of the relations in the folders of `folder`, in order of name."""
    triples = sorted(path.name.split("___") for path in folder.glob("*___*"))
    if not triples:
        raise ValueError(f"{folder}: expected folders <source>___<relation>___<target>; {_LAYOUT}")
    tables = []
    for triple in triples:
        path = folder / "___".join(triple) / "edge.csv.gz"
        if len(triple) != 3 or not {triple[0], triple[2]} <= set(counts):
            raise ValueError(
                f"{path.parent}: expected <source>___<relation>___<target> with types among "
                f"{sorted(counts)}"
            )
        ends = [triple[0], triple[2]]
        table = _within(path, read_text(path, columns=2), [counts[name] for name in ends])
        tables.append((table + [starts[name] for name in ends]).astype(np.int32))
    short = [relation for _, relation, _ in triples]
    names = short if len(set(short)) == len(short) else ["___".join(triple) for triple in triples]
    etype = np.repeat(np.arange(len(tables), dtype=np.int32), [len(table) for table in tables])
    pairs = np.concatenate(tables)
    return tuple(names), np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1]), etype


def _splits(folder: Path, target: str, count: int) -> list[np.ndarray]:
    """Node ids of train, valid and test, from the only split that there is."""
    found = sorted(path.parent for path in folder.glob(f"*/{target}/train.csv.gz"))
    if len(found) != 1:
        raise ValueError(
            f"{folder}: expected one split, <name>/{target}/train.csv.gz, got {len(found)}"
        )
    paths = [found[0] / f"{name}.csv.gz" for name in ("train", "valid", "test")]
    return [_within(path, read_text(path, columns=1), [count])[:, 0] for path in paths]


def _within(
    path: Path, table: Int[np.ndarray, "lines columns"], bounds: list[int], least: int = 0
) -> Int[np.ndarray, "lines columns"]:
    """`table`, column c of which lies in [least, bounds[c])."""
    bad = (table < least) | (table >= bounds)
    if bad.any():
        row, column = np.unravel_index(int(np.argmax(bad)), bad.shape)
        raise ValueError(
            f"{path}:{row + 1}: expected values in [{least}, {bounds[column]}), "
            f"got {table[row, column]}"
        )
    return table


def _floats(path: Path, count: int) -> Float[np.ndarray, "rows dim"]:
    """`[count, dim]` float32 from lines of numbers parted by commas."""
    table, at = empty((0, 0), np.float32), 0
    with named(path), gzip.open(path, "rt", encoding="utf-8", errors="replace") as stream:
        while lines := list(itertools.islice(stream, _ROWS)):
            if at == 0:
                table = empty((count, lines[0].count(",") + 1), np.float32)
            if at + len(lines) > count:
                raise ValueError(f"{path}: expected {count} lines, got more")
            table[at : at + len(lines)] = _parse(path, at + 1, lines, table.shape[1])
            at += len(lines)
    if at != count:
        raise ValueError(f"{path}: expected {count} lines, got {at}")
    return table


def _parse(path: Path, first: int, lines: list[str], columns: int) -> np.ndarray:
    """Lines of numbers, the first of which has the given number in the file."""
    try:
        rows = np.loadtxt(lines, np.float32, comments=None, delimiter=",", ndmin=2)
        if rows.shape == (len(lines), columns) and np.isfinite(rows).all():
            return rows
    except ValueError:
        pass
    for number, line in enumerate(lines, first):
        try:
            good = np.isfinite(np.array(line.split(","), np.float32))
        except ValueError:
            good = np.zeros(0, bool)
        if good.size != columns or not good.all():
            raise ValueError(
                f"{path}:{number}: expected {columns} finite numbers parted by commas, "
                f"got '{line.strip()[:60]}'"
            )
    raise ValueError(f"{path}: not a table of numbers from line {first} on")
