"""The form of every data set whose edges, and maybe nodes, have types."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdirect.data import _checks
from jaxdirect.data.graph import Graph, build_csr
from jaxdirect.hostmem.unified import empty

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_INVERSE = "inverse_"
_TASK = ("labels", *_checks.SPLITS, "class_names", "node_names")
_UNNAMED = 1 << 20  # more numbered relations, types or classes than this are a mistake


def _no_ids() -> np.ndarray:
    return np.zeros(0, np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class RelationalGraph:
    """A graph with typed edges for node classification, in NumPy arrays on the host.

    Construction checks every array once and keeps the integer ones as int32. It plans nothing:
    give `src`, `dst`, `etype` and `ntype` to `jaxdirect.relational.RelGraph.from_edges` for that.

    Args:
        src, dst, etype: `[num_edges]` integers: edge e carries a message from node `src[e]` to node
            `dst[e]` under relation `etype[e]`. Repeated edges and self loops are ordinary.
        num_nodes: number of nodes, N, of all types together.
        relation_names: a name per relation, R of them; by default the numbers up to `etype.max()`.
        ntype: `[num_nodes]` integers, the type of every node, or None where there is one type.
        type_names: a name per node type; by default numbers, or "node" where there is one type.
        features: floats `[num_featured, feature_dim]` or None: row v belongs to node v, and the
            nodes from `num_featured` on, if any, have none (learn an embedding for those).
        labels: `[num_nodes]` integers, -1 where unlabelled; by default all are.
        train, valid, test: node ids, disjoint, all labelled; by default empty.
        class_names: a name per class; by default the numbers up to `labels.max()`.
        node_names: a display name per node, or empty.

    Raises:
        TypeError: if an array has the wrong kind of dtype.
        ValueError: if a shape, a length or a value is wrong; the message names argument and place.

    Example:
        >>> graph = RelationalGraph([0, 1], [1, 2], [0, 1], 3, ("likes", "knows"))
        >>> graph.with_inverses().relation_names
        ('likes', 'knows', 'inverse_likes', 'inverse_knows')
        >>> graph.with_inverses().src.tolist(), graph.with_inverses().etype.tolist()
        ([0, 1, 1, 2], [0, 1, 2, 3])
    """

    src: Int[np.ndarray, " edges"]
    dst: Int[np.ndarray, " edges"]
    etype: Int[np.ndarray, " edges"]
    num_nodes: int
    relation_names: tuple[str, ...] = ()
    ntype: Int[np.ndarray, " nodes"] | None = None
    type_names: tuple[str, ...] = ()
    features: Float[np.ndarray, "featured dim"] | None = None
    labels: Int[np.ndarray, " nodes"] = dataclasses.field(default_factory=_no_ids)
    train: Int[np.ndarray, " train"] = dataclasses.field(default_factory=_no_ids)
    valid: Int[np.ndarray, " valid"] = dataclasses.field(default_factory=_no_ids)
    test: Int[np.ndarray, " test"] = dataclasses.field(default_factory=_no_ids)
    class_names: tuple[str, ...] = ()
    node_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = _checks.size("num_nodes", self.num_nodes)
        self._set(num_nodes=count)
        for name in ("src", "dst"):
            per = None if name == "src" else ("edge", self.src.size)
            more = "raise num_nodes or drop those edges"
            ids = _checks.integers(name, getattr(self, name), count, per=per, remedy=more)
            self._set(**{name: ids})
        self._set_named("etype", "relation_names", ("edge", self.src.size))
        if self.ntype is not None:
            self._set_named("ntype", "type_names", ("node", count))
        elif len(self.type_names) > 1:
            raise ValueError(
                f"RelationalGraph: ntype must be given with {len(self.type_names)} type_names, "
                "got None; pass one type per node"
            )
        else:
            self._set(type_names=tuple(self.type_names) or ("node",))
        if self.features is not None:
            self._set(features=_checks.features(self.features, count))
        if np.size(self.labels) == 0:
            self._set(labels=np.full(count, -1, np.int32))
        self._set_named("labels", "class_names", ("node", count), least=-1)
        parts = _checks.splits((self.train, self.valid, self.test), self.labels)
        self._set(**dict(zip(_checks.SPLITS, parts, strict=True)))
        if len(self.node_names) not in (0, count):
            raise ValueError(
                f"RelationalGraph: node_names must have one entry per node ({count}) or none, "
                f"got {len(self.node_names)}"
            )

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _set_named(self, name: str, names: str, per: tuple[str, int], least: int = 0) -> None:
        """Checks the integers in `name` against their names, or names them by their numbers."""
        given = tuple(getattr(self, names))
        bound, remedy = len(given) or _UNNAMED, f"name every one in {names}"
        value = getattr(self, name)
        array = _checks.integers(name, value, bound, least=least, per=per, remedy=remedy)
        counted = map(str, range(int(array.max(initial=-1)) + 1))
        self._set(**{name: array, names: given or tuple(counted)})

    @classmethod
    def from_graph(cls, graph: Graph) -> RelationalGraph:
        """The edges of a `Graph` with their types, its features, labels and splits, uncopied."""
        return cls(
            src=graph.src,
            dst=graph.dst,
            etype=graph.etype,
            num_nodes=graph.num_nodes,
            relation_names=graph.relation_names,
            features=graph.features,
            **{name: getattr(graph, name) for name in _TASK},
        )

    @property
    def num_edges(self) -> int:
        """Number of edges."""
        return self.src.size

    @property
    def num_relations(self) -> int:
        """Number of relations, R."""
        return len(self.relation_names)

    @property
    def num_types(self) -> int:
        """Number of node types."""
        return len(self.type_names)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def has_inverses(self) -> bool:
        """Whether `with_inverses` made the graph; told by the names of the relations."""
        half = self.num_relations // 2
        names = self.relation_names
        return half > 0 and names[half:] == tuple(_INVERSE + name for name in names[:half])

    def with_inverses(self) -> RelationalGraph:
        """The same graph with an edge back for every edge: relation r + R, "inverse_<name>".

        A layer sends messages along edges only, so without inverses a node hears nothing from the
        nodes it points to. A graph made by this method is returned as it is. A relation whose
        inverse the data holds already (hypernym and hyponym) gets one more all the same.
        """
        if self.has_inverses:
            return self
        return dataclasses.replace(
            self,
            src=np.concatenate([self.src, self.dst]),
            dst=np.concatenate([self.dst, self.src]),
            etype=np.concatenate([self.etype, self.etype + np.int32(self.num_relations)]),
            relation_names=(
                *self.relation_names,
                *(_INVERSE + name for name in self.relation_names),
            ),
        )

    def in_edges(
        self,
    ) -> tuple[
        Int[np.ndarray, " rows_plus_one"], Int[np.ndarray, " edges"], Int[np.ndarray, " edges"]
    ]:
        """The edges by destination: `indptr` `[num_nodes + 1]`, `src` and `etype` `[num_edges]`.

        For `jaxdirect.CSRGraph(indptr, src)`, which `sample_neighbors` draws from, and
        `jaxdirect.relational.block`, which takes `etype`. The edges of a node keep their order.

        Example:
            >>> RelationalGraph([0, 1, 2], [2, 0, 2], [0, 1, 1], 3).in_edges()[0].tolist()
            [0, 1, 1, 3]
        """
        order = np.argsort(self.dst, kind="stable")
        indptr = np.zeros(self.num_nodes + 1, np.int32)
        np.cumsum(np.bincount(self.dst, minlength=self.num_nodes), out=indptr[1:])
        return indptr, self.src[order], self.etype[order]

    def homogeneous(self) -> Graph:
        """The same task without relations: neighbours along any edge, either way, as a `Graph`.

        Nodes without features get rows of zeros.
        """
        indptr, indices = build_csr(self.src, self.dst, self.num_nodes)
        given = np.zeros((0, 0), np.float32) if self.features is None else self.features
        table = given
        if len(given) < self.num_nodes:
            table = empty((self.num_nodes, given.shape[1]), given.dtype)
            table[: len(given)] = given
            table[len(given) :] = 0
        edges = ("src", "dst", "etype", "relation_names")
        same = {name: getattr(self, name) for name in (*edges, *_TASK)}
        return Graph(indptr=indptr, indices=indices, features=table, **same)

    def __repr__(self) -> str:
        table = self.features
        sizes = [f"{name}={getattr(self, name).size}" for name in _checks.SPLITS]
        if table is not None:
            sizes.insert(0, f"features={table.dtype}{list(table.shape)}")
        return (
            f"RelationalGraph(num_nodes={self.num_nodes}, num_edges={self.num_edges}, "
            f"num_relations={self.num_relations}, num_types={self.num_types}, "
            f"num_classes={self.num_classes}, {', '.join(sizes)})"
        )
