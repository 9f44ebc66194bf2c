"""A user's own graph from files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from jaxdirect.data import _arrays
from jaxdirect.data.graph import Graph, build_csr, narrow, random_split

_SPLITS = ("train", "valid", "test")
_ROWS = 1 << 16


def from_files(
    edges: str | os.PathLike[str],
    features: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    *,
    directed: bool = False,
    seed: int = 0,
    check_finite: bool = True,
) -> Graph:
    """A graph from three files, checked.

    Args:
        edges: .npy `[2, num_edges]` or `[num_edges, 2]` (2 by 2 is read as the first) of integer
            (source, target); or .npz with `src` and `dst`, or `edge_index`, each with an optional
            `etype` (integers 0 to 65535), or with `indptr` and `indices`, taken as they are; or
            text with one "source target" per line, parted by blanks or a comma.
        features: .npy (mapped without a copy if the file is writable) or .npz (`features`),
            `[num_nodes, feature_dim]`, floats.
        labels: .npy, .npz (`labels`) or text, `[num_nodes]` integers, -1 = unlabelled; the .npz may
            also hold `train`, `valid` and `test`, node ids or boolean masks.
        directed: if True, a node draws from the sources of its edges only, else from both ends.
        seed: of the random 80/10/10 split of the labelled nodes, where none is given.
        check_finite: read all features once to find a NaN or an infinity.

    Returns:
        `Graph`.

    Raises:
        ValueError: if a file or an array is bad; the message names it, and the line or position.

    Example:
        >>> import tempfile, pathlib
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "edges.txt").write_text("0 1\\n1 2\\n")
        >>> _ = (folder / "labels.txt").write_text("0\\n1\\n1\\n")
        >>> np.save(folder / "features.npy", np.ones((3, 4), np.float32))
        >>> graph = from_files(*(folder / n for n in ("edges.txt", "features.npy", "labels.txt")))
        >>> graph.indptr.tolist(), graph.indices.tolist()
        ([0, 1, 3, 4], [1, 0, 2, 1])
    """
    edges, features, labels = Path(edges), Path(features), Path(labels)
    table = _features(features, check_finite)
    classes, splits = _labels(labels, table.shape[0], seed)
    indptr, indices, src, dst, etype = _edges(edges, table.shape[0], directed)
    num_relations = int(etype.max(initial=0)) + 1
    return Graph(
        indptr=indptr,
        indices=indices,
        features=table,
        labels=classes,
        train=splits[0],
        valid=splits[1],
        test=splits[2],
        class_names=tuple(map(str, range(int(classes.max()) + 1))),
        src=src,
        dst=dst,
        etype=etype,
        relation_names=tuple(map(str, range(num_relations))) if num_relations > 1 else ("edge",),
    )


def _features(path: Path, check_finite: bool) -> np.ndarray:
    if path.suffix == ".npy":
        table = _arrays.read_npy(path, mapped=True)
    elif path.suffix == ".npz":
        table = _arrays.pick(_arrays.read_npz(path), path, "features")
    else:
        raise ValueError(f"features: expected an .npy or .npz file, got {path}; use numpy.save")
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"features: expected [num_nodes, feature_dim], got {table.shape} ({path})")
    if not np.issubdtype(table.dtype, np.floating):
        raise ValueError(
            f"features: expected floats, got {table.dtype} ({path}); cast with .astype('float32')"
        )
    for start in range(0, table.shape[0], _ROWS) if check_finite else ():
        finite = np.isfinite(table[start : start + _ROWS]).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise ValueError(f"features: row {row} holds a NaN or an infinity ({path})")
    return table


def _integers(name: str, array: np.ndarray, path: Path) -> np.ndarray:
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"{name}: expected integers, got {array.dtype} ({path}); cast with .astype('int64')"
        )
    if array.ndim != 1:
        raise ValueError(f"{name}: expected a 1-D array, got shape {array.shape} ({path})")
    return array


def _within(name: str, array: np.ndarray, low: int, high: int, path: Path) -> np.ndarray:
    """`array` of integers, all in [low, high), or an error that names the first that is not."""
    array = _integers(name, array, path)
    bad = (array < low) | (array >= high)
    if bad.any():
        at = int(np.argmax(bad))
        raise ValueError(
            f"{name}: expected values in [{low}, {high}), got {array[at]} at position {at} ({path})"
        )
    return array


def _labels(
    path: Path, num_nodes: int, seed: int
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    arrays = _arrays.read(path, columns=1)
    labels = _arrays.pick(arrays, path, "labels")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    labels = _within("labels", labels, -1, 2**31 - 1, path).astype(np.int32)
    if labels.size != num_nodes:
        raise ValueError(
            f"labels: has {labels.size} entries but features has {num_nodes} rows ({path})"
        )
    labelled = np.flatnonzero(labels >= 0)
    if labelled.size == 0:
        raise ValueError(f"labels: every node is unlabelled (-1) ({path})")
    given = [name for name in _SPLITS if name in arrays]
    if not given:
        return labels, random_split(labelled, seed)
    if len(given) < len(_SPLITS):
        missing = [name for name in _SPLITS if name not in arrays]
        raise ValueError(f"{path}: has {given} but not {missing}; give all three or none")
    owner = np.full(num_nodes, -1, np.int8)
    train, valid, test = (
        _split(part, arrays[name], owner, labels, path) for part, name in enumerate(_SPLITS)
    )
    return labels, (train, valid, test)


def _split(
    part: int, ids: np.ndarray, owner: np.ndarray, labels: np.ndarray, path: Path
) -> np.ndarray:
    """One split as node ids; marks them in `owner`, which knows those of the earlier splits."""
    name = _SPLITS[part]
    if ids.dtype == bool:
        if ids.shape != labels.shape:
            raise ValueError(
                f"{name}: mask has shape {ids.shape}, expected {labels.shape} ({path})"
            )
        ids = np.flatnonzero(ids)
    ids = _within(name, ids, 0, labels.size, path).astype(np.int32)
    unlabelled = labels[ids] < 0
    if unlabelled.any():
        at = int(np.argmax(unlabelled))
        raise ValueError(f"{name}: node {ids[at]} at position {at} is unlabelled ({path})")
    taken = owner[ids] >= 0
    if taken.any():
        at = int(np.argmax(taken))
        other = _SPLITS[owner[ids[at]]]
        raise ValueError(f"{name}: node {ids[at]} at position {at} is in {other} too ({path})")
    if np.unique(ids).size != ids.size:
        raise ValueError(f"{name}: names a node twice ({path}); use numpy.unique")
    owner[ids] = part
    return ids


def _edges(path: Path, num_nodes: int, directed: bool) -> tuple[np.ndarray, ...]:
    """(indptr, indices, src, dst, etype) of the file."""
    arrays = _arrays.read(path, columns=2)
    if "indptr" in arrays and "indices" in arrays:
        indptr, src, dst = _csr(arrays, num_nodes, path)
        return indptr, src, src, dst, np.zeros(src.size, np.uint8)
    if "src" in arrays and "dst" in arrays:
        src, dst = arrays["src"], arrays["dst"]
        if src.shape != dst.shape:
            raise ValueError(f"src: has shape {src.shape} but dst has {dst.shape} ({path})")
    else:
        others = ", or 'src' and 'dst', or 'indptr' and 'indices'"
        pairs = _arrays.pick(arrays, path, "edge_index", others)
        if pairs.ndim != 2 or 2 not in pairs.shape:
            raise ValueError(
                f"edges: expected [2, num_edges] or [num_edges, 2], got {pairs.shape} ({path})"
            )
        is_text = path.suffix not in (".npy", ".npz")
        src, dst = pairs.T if is_text or pairs.shape[0] != 2 else pairs
    src = narrow(_within("src", src, 0, num_nodes, path), num_nodes)
    dst = narrow(_within("dst", dst, 0, num_nodes, path), num_nodes)
    etype = np.zeros(src.size, np.uint8)
    if "etype" in arrays:
        etype = _within("etype", arrays["etype"], 0, 1 << 16, path)
        etype = etype.astype(np.min_scalar_type(int(etype.max(initial=0))))
        if etype.size != src.size:
            raise ValueError(f"etype: has {etype.size} entries but src has {src.size} ({path})")
    return *build_csr(src, dst, num_nodes, directed=directed), src, dst, etype


def _csr(
    arrays: dict[str, np.ndarray], num_nodes: int, path: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(indptr, src, dst) of neighbour lists taken as they are."""
    indices = narrow(_within("indices", arrays["indices"], 0, num_nodes, path), num_nodes)
    indptr = _within("indptr", arrays["indptr"], 0, indices.size + 1, path)
    if indptr.size != num_nodes + 1:
        raise ValueError(
            f"indptr: has {indptr.size} entries but features has {num_nodes} rows; expected "
            f"{num_nodes + 1} ({path})"
        )
    indptr = indptr.astype(np.int64)
    falls = np.diff(indptr) < 0
    if indptr[0] != 0 or indptr[-1] != indices.size or falls.any():
        why = f"entry {int(np.argmax(falls)) + 1} is smaller than the one before"
        if not falls.any():
            why = f"starts at {indptr[0]} and ends at {indptr[-1]}"
        raise ValueError(
            f"indptr: must rise from 0 to {indices.size}, the length of indices, but {why} ({path})"
        )
    dst = np.repeat(narrow(np.arange(num_nodes), num_nodes), np.diff(indptr))
    return narrow(indptr, indices.size + 1), indices, dst
