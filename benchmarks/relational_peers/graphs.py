"""Synthetic graphs with the sizes of known ones: power-law degrees, relations between types."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from .shapes import SHAPES, Shape

# Node of rank i is drawn with a chance ~ i^(1 / STEEP - 1): degrees fall as d^-2.5.
STEEP = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A graph with typed edges and nodes; nodes of one type have consecutive ids.

    Args:
        name: of the graph whose sizes it has.
        note: how it was made, for the report.
        src, dst, etype: int32 [edges], ordered by relation.
        ntype: int32 [nodes].
        type_sizes: nodes of each type.
        unique_src, unique_dst: int64 [relations], distinct sources and destinations.
    """

    name: str
    note: str
    src: np.ndarray
    dst: np.ndarray
    etype: np.ndarray
    ntype: np.ndarray
    type_sizes: np.ndarray
    unique_src: np.ndarray
    unique_dst: np.ndarray

    @property
    def nodes(self) -> int:
        return len(self.ntype)

    @property
    def edges(self) -> int:
        return len(self.src)

    @property
    def relations(self) -> int:
        return len(self.unique_src)

    @functools.cached_property
    def relation_ptr(self) -> np.ndarray:
        """int64 [relations + 1]: where each relation's edges begin."""
        return np.searchsorted(self.etype, np.arange(self.relations + 1))

    @functools.cached_property
    def sources(self) -> int:
        """Nodes with an edge that leaves them."""
        return int(np.count_nonzero(np.bincount(self.src, minlength=self.nodes)))

    @functools.cached_property
    def destinations(self) -> int:
        """Nodes with an edge that enters them."""
        return int(np.count_nonzero(np.bincount(self.dst, minlength=self.nodes)))

    def compact_rows(self, compaction: str = "min") -> int:
        """Rows that a typed linear map of the edges' ends has under a compaction."""
        if compaction == "none":
            return self.edges
        rows = (
            self.unique_src if compaction == "src" else np.minimum(self.unique_src, self.unique_dst)
        )
        return int(rows.sum())

    def describe(self) -> dict[str, int | float | str]:
        """Sizes, spread of the relations, shares of unique pairs and largest degrees."""
        sizes = np.diff(self.relation_ptr)
        return {
            "note": self.note,
            "nodes": self.nodes,
            "edges": self.edges,
            "relations": self.relations,
            "types": len(self.type_sizes),
            "sources": self.sources,
            "destinations": self.destinations,
            "relation_median": float(np.median(sizes)),
            "relation_largest": int(sizes.max()),
            "relations_under_64": int((sizes < 64).sum()),
            "unique_src_share": float(self.unique_src.sum() / self.edges),
            "unique_dst_share": float(self.unique_dst.sum() / self.edges),
            "unique_min_share": self.compact_rows() / self.edges,
            "max_in_degree": int(np.bincount(self.dst).max()),
            "max_out_degree": int(np.bincount(self.src).max()),
        }


def make(name: str, seed: int = 0) -> Graph:
    """The graph of that name: "wordnet", or synthetic with the sizes of one in `shapes.SHAPES`."""
    if name == "wordnet":
        return wordnet()
    if name not in SHAPES:
        raise ValueError(f"graphs: name must be wordnet or one of {list(SHAPES)}, got {name!r}")
    return synthetic(SHAPES[name], seed)


def synthetic(shape: Shape, seed: int = 0) -> Graph:
    """Draws a graph; the same seed gives the same edges.

    Each relation joins one source type and one destination type. At each end it draws from a pool
    of nodes, with a power law over their ranks, the pool being as large as gives the wanted share
    of distinct nodes. Pools begin at random places of a random order of their type's nodes, more
    often near its front, so that some nodes are hubs of many relations.
    """
    rng = np.random.default_rng(seed)
    type_sizes = shape.type_sizes()
    starts = np.concatenate([[0], np.cumsum(type_sizes)])
    order = np.concatenate(
        [a + rng.permutation(n).astype(np.int32) for a, n in zip(starts, type_sizes, strict=False)]
    ).astype(np.int32)
    sizes = shape.relation_sizes()
    ends = np.empty((2, int(sizes.sum())), np.int32)
    unique = np.empty((2, len(sizes)), np.int64)
    seen = np.zeros(shape.nodes, bool)
    begin = 0
    for relation, size in enumerate(sizes):
        pools = [_pool(share, int(size), rng) for share in (shape.near, shape.far)]
        if rng.random() < 0.5:
            pools.reverse()
        for end in range(2):
            kind = _end_type(shape, relation, end, type_sizes, pools[end], rng)
            pool = min(pools[end] or int(type_sizes[kind]), int(type_sizes[kind]))
            rank = (rng.random(size, np.float32) ** STEEP * pool).astype(np.int32)
            # A pool of all nodes starts at the front: it has the hubs that the type has.
            front = 0 if pools[end] is None else int(rng.random() ** 4 * type_sizes[kind])
            place = (np.minimum(rank, pool - 1) + front) % type_sizes[kind] + starts[kind]
            nodes = order[place]
            ends[end, begin : begin + size] = nodes
            seen[nodes] = True
            unique[end, relation] = np.count_nonzero(seen)
            seen[nodes] = False
        begin += size
    etype = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    if shape.inverses:
        ends, unique = (np.concatenate([a, a[::-1]], axis=1) for a in (ends, unique))
        etype = np.concatenate([etype, etype + np.int32(len(sizes))])
    ntype = np.repeat(np.arange(len(type_sizes), dtype=np.int32), type_sizes)
    note = f"synthetic with {shape.name.upper()}'s sizes"
    return Graph(shape.name, note, *ends, etype, ntype, type_sizes, *unique)


def wordnet() -> Graph:
    """The packaged WordNet: 26 pointer types and their inverses. Real, not drawn."""
    from jaxdirect import data

    real = data.relational_wordnet(feature_dim=1).with_inverses()
    order = np.argsort(real.etype, kind="stable")
    src, dst, etype = (np.asarray(a)[order] for a in (real.src, real.dst, real.etype))
    relations = len(real.relation_names)
    unique = [
        np.bincount(np.unique(etype.astype(np.int64) * real.num_nodes + ends) // real.num_nodes)
        for ends in (src, dst)
    ]
    unique = [np.pad(u, (0, relations - len(u))) for u in unique]
    ntype = np.zeros(real.num_nodes, np.int32)
    note = "WordNet's pointers and their inverses"
    return Graph("wordnet", note, src, dst, etype, ntype, np.array([real.num_nodes]), *unique)


def _end_type(shape, relation: int, end: int, type_sizes, pool: int | None, rng) -> int:
    """The node type at one end of a relation: given, or a random one that holds the pool."""
    if relation < len(shape.fixed):
        return shape.fixed[relation][1 + end]
    if shape.name == "biokg":  # 38 relations among drugs, 7 among proteins
        return 1 if (relation - len(shape.fixed)) % 6 == 5 else 2
    large = np.flatnonzero(type_sizes >= (pool or 0))
    if not large.size:
        return int(np.argmax(type_sizes))
    return int(rng.choice(large, p=type_sizes[large] / type_sizes[large].sum()))


def _pool(share: float | None, size: int, rng) -> int | None:
    """Nodes to draw `size` ends from, so that about `share * size` of them differ."""
    if share is None:
        return None
    share = min(0.95, share * float(np.exp(0.4 * rng.standard_normal() - 0.08)))
    return max(1, round(_nodes_per_edge(round(share, 3)) * size))


@functools.cache
def _nodes_per_edge(share: float) -> float:
    """Pool size over draws at which `share` of the draws are distinct nodes."""
    v = (np.arange(4096) + 0.5) / 4096  # rank / pool = v^STEEP
    width = STEEP * v ** (STEEP - 1) / 4096
    density = v ** (1 - STEEP) / STEEP
    low, high = 1e-6, 1e6
    for _ in range(80):
        middle = (low * high) ** 0.5
        distinct = middle * np.sum(-np.expm1(-density / middle) * width)
        low, high = (middle, high) if distinct < share else (low, middle)
    return low
