"""The one form that every data set has, its CSR builder and its floors."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int, Integer

_SPLIT_STREAM = 0x5B117


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A graph for node classification, in NumPy arrays on the host.

    Attributes:
        indptr: `[num_nodes + 1]`, int32 (int64 from 2^31 entries on).
        indices: `[num_entries]`, int32 (int64 from 2^31 nodes on). Row v, that is
            `indices[indptr[v]:indptr[v + 1]]`, lists the nodes that v draws from.
        features: `[num_nodes, feature_dim]`, page aligned or a file mapping.
        labels: `[num_nodes]`, int32, -1 where unlabelled.
        train, valid, test: int32 node ids, disjoint, all labelled.
        class_names: a name per class.
        src, dst, etype: `[num_edges]`, int32, int32, uint8 or uint16: the edges as given, before
            both directions were merged into the CSR; `etype` is all 0 where there is one relation.
        relation_names: a name per edge type.
        node_names: a display name per node, or empty.
    """

    indptr: Int[np.ndarray, " rows_plus_one"]
    indices: Int[np.ndarray, " entries"]
    features: Float[np.ndarray, "nodes dim"]
    labels: Int[np.ndarray, " nodes"]
    train: Int[np.ndarray, " train"]
    valid: Int[np.ndarray, " valid"]
    test: Int[np.ndarray, " test"]
    class_names: tuple[str, ...]
    src: Int[np.ndarray, " edges"]
    dst: Int[np.ndarray, " edges"]
    etype: Integer[np.ndarray, " edges"]
    relation_names: tuple[str, ...] = ("edge",)
    node_names: tuple[str, ...] = ()

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return self.labels.shape[0]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


@dataclasses.dataclass(frozen=True)
class Floors:
    """Test accuracies in [0, 1] that need no training: what a model has to beat.

    Attributes:
        majority: always the most frequent class of the training nodes.
        label_vote: the most frequent class among a node's neighbours that are training nodes,
            `majority` where there is none; ties go to the smaller class.
        coverage: share of the test nodes that have such a neighbour.
    """

    majority: float
    label_vote: float
    coverage: float


def build_csr(
    src: Int[np.ndarray, " edges"],
    dst: Int[np.ndarray, " edges"],
    num_nodes: int,
    *,
    directed: bool = False,
) -> tuple[Int[np.ndarray, " rows_plus_one"], Int[np.ndarray, " entries"]]:
    """The neighbour lists of an edge list, without duplicates and self loops, each in id order.

    Args:
        src: `[num_edges]` integers in `[0, num_nodes)`: where messages come from.
        dst: `[num_edges]` integers in `[0, num_nodes)`: where they go.
        num_nodes: number of nodes.
        directed: if True, row v lists the sources of the edges into v; if False (default), the
            sources and the targets of all edges that touch v.

    Returns:
        `indptr` `[num_nodes + 1]` and `indices` `[num_entries]`; int32 unless 2^31 is reached.

    Example:
        >>> indptr, indices = build_csr(np.array([0, 2, 0]), np.array([1, 1, 0]), num_nodes=3)
        >>> indptr.tolist(), indices.tolist()
        ([0, 1, 3, 4], [1, 0, 2, 1])
    """
    # One sort of row * num_nodes + column orders rows and columns at once.
    keep = src != dst
    rows, columns = dst[keep].astype(np.int64), src[keep].astype(np.int64)
    keys = rows * num_nodes + columns
    if not directed:
        keys = np.concatenate([keys, columns * num_nodes + rows])
    keys.sort()
    keys = keys[np.diff(keys, prepend=-1) != 0]
    rows, columns = np.divmod(keys, max(num_nodes, 1))
    indptr = np.zeros(num_nodes + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=num_nodes), out=indptr[1:])
    return narrow(indptr, keys.size + 1), narrow(columns, num_nodes)


def narrow(values: np.ndarray, bound: int) -> np.ndarray:
    """`values`, all below `bound`, as int32 where that holds them, else as int64."""
    return values.astype(np.int32 if bound <= 2**31 else np.int64, copy=False)


def random_split(
    labelled: Int[np.ndarray, " labelled"], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits node ids 80/10/10 at random, each part in id order; the same in every NumPy."""
    # A bit generator's raw stream is frozen by NumPy's policy; `permutation` may change. The stream
    # is not that of `default_rng(seed)`, which may have drawn the labels themselves.
    bits = np.random.PCG64([seed, _SPLIT_STREAM])
    order = np.argsort(bits.random_raw(labelled.size), kind="stable")
    first, second = labelled.size * 8 // 10, labelled.size * 9 // 10
    parts = np.split(labelled[order].astype(np.int32), [first, second])
    return np.sort(parts[0]), np.sort(parts[1]), np.sort(parts[2])


def floors(graph: Graph) -> Floors:
    """Accuracies on the test nodes without any model.

    Args:
        graph: the data set; `train` and `test` must not be empty.

    Returns:
        `Floors`, accuracies in [0, 1].

    Raises:
        ValueError: if there are no training or no test nodes.

    Example:
        >>> import numpy as np
        >>> from jaxdirect.data import Graph, build_csr
        >>> src, dst = np.array([0, 1, 3]), np.array([1, 2, 4])
        >>> indptr, indices = build_csr(src, dst, 5)
        >>> graph = Graph(indptr, indices, np.zeros((5, 1), np.float32), np.array([0, 0, 1, 1, 1]),
        ...               np.array([0, 1, 3]), np.array([], int), np.array([2, 4]), ("a", "b"),
        ...               src, dst, np.zeros(3, np.uint8))
        >>> floors(graph)
        Floors(majority=0.0, label_vote=0.5, coverage=1.0)
    """
    for name, part in (("train", graph.train), ("test", graph.test)):
        if part.size == 0:
            raise ValueError(f"floors: graph.{name} must not be empty, got 0 nodes; label more")
    majority = np.bincount(graph.labels[graph.train]).argmax()
    votes = np.full(graph.num_nodes, -1, np.int64)
    votes[graph.train] = graph.labels[graph.train]

    # Entries of the test rows, flattened: position in `test`, and the neighbour's training label.
    starts = graph.indptr[graph.test].astype(np.int64)
    lengths = graph.indptr[graph.test + 1] - starts
    owner = np.repeat(np.arange(graph.test.size), lengths)
    first = np.cumsum(lengths) - lengths
    label = votes[graph.indices[np.arange(owner.size) - first[owner] + starts[owner]]]
    owner, label = owner[label >= 0], label[label >= 0]

    keys, counts = np.unique(owner * graph.num_classes + label, return_counts=True)
    owner, label = np.divmod(keys, graph.num_classes)
    best = np.lexsort((label, -counts, owner))
    voters, at = np.unique(owner[best], return_index=True)
    predicted = np.full(graph.test.size, majority, np.int64)
    predicted[voters] = label[best][at]

    truth = graph.labels[graph.test]
    return Floors(
        majority=float(np.mean(truth == majority)),
        label_vote=float(np.mean(truth == predicted)),
        coverage=voters.size / graph.test.size,
    )
