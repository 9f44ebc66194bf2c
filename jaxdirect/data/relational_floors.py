"""What a relational model has to beat: accuracies that need counting, but no training."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from jaxdirect.data.graph import floors
from jaxdirect.data.relational import RelationalGraph

if TYPE_CHECKING:
    from jaxtyping import Int

_ROWS = 1 << 14


@dataclasses.dataclass(frozen=True)
class RelationalFloors:
    """Test accuracies in [0, 1] of rules that count labels and never look at features.

    Attributes:
        majority: always the most frequent class of the training nodes.
        label_vote: the most frequent class among the neighbours that are training nodes, whatever
            the relation; `majority` where there is none.
        coverage: share of the test nodes that have such a neighbour.
        label_bayes: naive Bayes on (relation, direction, neighbour's training label or none).
        node_bayes: naive Bayes on (relation, direction, neighbour itself): what a model with an
            embedding per node could learn from one hop.
    """

    majority: float
    label_vote: float
    coverage: float
    label_bayes: float
    node_bayes: float

    def __str__(self) -> str:
        rows = [(name.replace("_", " "), getattr(self, name)) for name in self.__annotations__]
        return "\n".join(f"{name:12s} {100 * value:6.2f} %" for name, value in rows)


def relational_floors(graph: RelationalGraph) -> RelationalFloors:
    """Accuracies on the test nodes without any model.

    Both naive Bayes rules are multinomial over a node's edges in either direction: class c scores
    log P(c) + sum over edges of log P(token | c), with P(token | c) = (count + a) / (total + a V)
    from the training nodes, V tokens, and a = 1 for labels, 0.1 for nodes. Inverse relations (see
    `RelationalGraph.with_inverses`) would count every edge twice and are left out.

    Args:
        graph: the data set; `train` and `test` must not be empty.

    Returns:
        `RelationalFloors`, accuracies in [0, 1]; print it for a table.

    Raises:
        ValueError: if there are no training or no test nodes.

    Source: Manning, Raghavan and Schuetze, Introduction to Information Retrieval, 2008, ch. 13.2.

    Example:
        >>> graph = RelationalGraph(
        ...     [0, 1, 2, 3], [4, 5, 4, 5], [0, 0, 0, 0], 6,
        ...     labels=[0, 1, 0, 1, -1, -1], train=[0, 1], test=[2, 3])
        >>> print(relational_floors(graph))
        majority      50.00 %
        label vote    50.00 %
        coverage       0.00 %
        label bayes   50.00 %
        node bayes   100.00 %
    """
    simple = floors(dataclasses.replace(graph, features=None).homogeneous())
    num_nodes, num_classes, num_relations = graph.num_nodes, graph.num_classes, graph.num_relations
    keep = graph.src != graph.dst
    if graph.has_inverses:
        num_relations //= 2
        keep &= graph.etype < num_relations
    src, dst, etype = (
        array[keep].astype(np.int64) for array in (graph.src, graph.dst, graph.etype)
    )
    node, other = np.concatenate([dst, src]), np.concatenate([src, dst])
    relation = np.concatenate([etype, etype + num_relations])

    known = np.zeros(num_nodes, np.int64)
    known[graph.train] = graph.labels[graph.train] + 1
    by_label = relation * (num_classes + 1) + known[other]
    by_node = relation * num_nodes + other
    return RelationalFloors(
        majority=simple.majority,
        label_vote=simple.label_vote,
        coverage=simple.coverage,
        label_bayes=_naive_bayes(graph, node, by_label, 1.0),
        node_bayes=_naive_bayes(graph, node, by_node, 0.1),
    )


def _naive_bayes(
    graph: RelationalGraph,
    node: Int[np.ndarray, " edges"],
    token: Int[np.ndarray, " edges"],
    smoothing: float,
) -> float:
    """Test accuracy of multinomial naive Bayes on the tokens of every node."""
    from scipy.sparse import csr_array

    _, token = np.unique(token, return_inverse=True)
    vocabulary = int(token.max(initial=0)) + 1
    shape = (graph.num_nodes, vocabulary)
    tokens = csr_array((np.ones(node.size), (node, token)), shape)
    truth = graph.labels[graph.train]
    ones, at = np.ones(truth.size), np.arange(truth.size)
    members = csr_array((ones, (at, truth)), (truth.size, graph.num_classes))
    counts = csr_array(tokens[graph.train].T @ members)  # [tokens, classes]
    totals = np.bincount(counts.indices, counts.data, graph.num_classes)
    with np.errstate(divide="ignore"):  # a class without training nodes scores -inf
        prior = np.log(np.bincount(truth, minlength=graph.num_classes) / truth.size)
    # log((count + a) / (total + a V)) = log1p(count / a) - log(total / a + V): sparse plus dense.
    counts.data = np.log1p(np.asarray(counts.data, np.float64) / smoothing)
    penalty = np.log(totals / smoothing + vocabulary)
    right = 0
    for start in range(0, graph.test.size, _ROWS):
        ids = graph.test[start : start + _ROWS]
        rows = tokens[ids]
        score = (rows @ counts).toarray() + prior - np.outer(rows.sum(axis=1), penalty)
        right += np.count_nonzero(score.argmax(axis=1) == graph.labels[ids])
    return float(right) / graph.test.size
