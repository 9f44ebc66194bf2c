"""WordNet 3.0 as a node classification task: which lexicographer file is a synset from?"""

from __future__ import annotations

import re
import zlib
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from jaxdirect.data import _checks
from jaxdirect.data.graph import Graph, build_csr, random_split
from jaxdirect.data.relational import RelationalGraph
from jaxdirect.hostmem.unified import empty

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_WORD = re.compile(rb"[a-z0-9]+")


def wordnet(*, feature_dim: int = 1024, seed: int = 0) -> Graph:
    """The WordNet graph: 117 659 synsets, 377 592 pointers of 26 types, 45 classes.

    Nodes are synsets, edges are pointers (a lexical pointer joins the synsets of its two words),
    classes are the lexicographer files ("noun.animal", "verb.motion", ...). Features are the words
    of the gloss alone, hashed into bins. Node ids follow the database, where neighbouring synsets
    often share a class, so an id must not be used as a feature.

    Args:
        feature_dim: number of bins, that is columns of `features`; at least 1.
        seed: of the random 80/10/10 split; not negative.

    Returns:
        `Graph` with float32 features `[117659, feature_dim]` of length 1 per row, in page-aligned
        memory (`jaxdirect.empty`), and `src`, `dst`, `etype` of the pointers themselves.

    Raises:
        ValueError: if `feature_dim` or `seed` is out of range.

    Source: Fellbaum (ed.), WordNet: An Electronic Lexical Database, MIT Press 1998;
        `scripts/build_wordnet.py` builds the shipped file. Its licence lies beside it.

    Example:
        >>> graph = wordnet(feature_dim=64)
        >>> graph.features.shape, graph.num_classes, graph.node_names[1]
        ((117659, 64), 45, 'physical entity')
    """
    feature_dim = _checks.option("wordnet", "feature_dim", feature_dim, 1)
    seed = _checks.option("wordnet", "seed", seed, 0)
    path = resources.files("jaxdirect.data").joinpath("wordnet", "wordnet.npz")
    with path.open("rb") as stream, np.load(stream) as archive:
        data = {name: archive[name] for name in archive.files}
    labels = data["labels"].astype(np.int32)
    counts = data["pointer_counts"].astype(np.int64)
    src = np.repeat(np.arange(labels.size, dtype=np.int32), counts)
    dst = data["pointer_targets"]
    indptr, indices = build_csr(src, dst, labels.size)
    train, valid, test = random_split(np.arange(labels.size), seed)
    return Graph(
        indptr=indptr,
        indices=indices,
        features=hash_lines(data["glosses"].tobytes(), feature_dim),
        labels=labels,
        train=train,
        valid=valid,
        test=test,
        class_names=tuple(map(str, data["class_names"])),
        src=src,
        dst=dst,
        etype=data["pointer_types"],
        relation_names=tuple(map(str, data["pointer_names"])),
        node_names=tuple(data["words"].tobytes().decode().split("\n")),
    )


def relational_wordnet(*, feature_dim: int = 1024, seed: int = 0) -> RelationalGraph:
    """WordNet with its 26 pointer types: nodes, features, labels and splits are `wordnet`'s.

    Most pointer types have their inverse in the data (hypernym and hyponym); `with_inverses` adds
    one to each all the same.

    Args:
        feature_dim: number of bins, that is columns of `features`; at least 1.
        seed: of the random 80/10/10 split; not negative.

    Returns:
        `RelationalGraph`: 117 659 nodes, 377 592 edges, 26 relations, 45 classes.

    Raises:
        ValueError: if `feature_dim` or `seed` is out of range.

    Example:
        >>> graph = relational_wordnet(feature_dim=64)
        >>> graph.num_edges, len(graph.relation_names), "part_holonym" in graph.relation_names
        (377592, 26, True)
    """
    return RelationalGraph.from_graph(wordnet(feature_dim=feature_dim, seed=seed))


def hash_lines(text: bytes, feature_dim: int) -> Float[np.ndarray, "lines dim"]:
    """One feature row per line: crc32 bins of its words, square roots of counts, length 1.

    Args:
        text: lines parted by newlines; words are runs of ASCII letters and digits, any case.
        feature_dim: number of bins.

    Returns:
        float32 `[num_lines, feature_dim]` from `jaxdirect.empty`; a line with no word is all 0.

    Example:
        >>> hash_lines(b"a dog; a Dog", 1)
        array([[1.]], dtype=float32)
    """
    text = text.lower()
    words = _WORD.findall(text)
    lines = _word_lines(text)
    codes = {word: zlib.crc32(word) % feature_dim for word in set(words)}
    bins = np.fromiter(map(codes.__getitem__, words), np.int64, len(words))
    keys, counts = np.unique(lines * feature_dim + bins, return_counts=True)
    # The squares of sqrt(count) add up to the line's number of words.
    num_lines = text.count(b"\n") + 1
    totals = np.bincount(lines, minlength=num_lines)
    table = empty((num_lines, feature_dim), np.float32)
    table.fill(0)
    table.reshape(-1)[keys] = np.sqrt(counts / totals[keys // feature_dim])
    return table


def _word_lines(text: bytes) -> Int[np.ndarray, " words"]:
    """The line number of every word of lower-case `text`, in order."""
    letters = np.frombuffer(text, np.uint8)
    is_word = np.zeros(256, bool)
    is_word[list(b"abcdefghijklmnopqrstuvwxyz0123456789")] = True
    inside = is_word[letters]
    starts = np.flatnonzero(inside & ~np.concatenate([[False], inside[:-1]]))
    return np.searchsorted(np.flatnonzero(letters == ord("\n")), starts)
