"""RelGraph: a graph with typed edges and the plan that every relational operation follows."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.typing import ArrayLike
from jaxtyping import Array, Int

from jaxdirect.relational import _build, _edges, _explain, _store
from jaxdirect.relational._lists import Lists, Tiles
from jaxdirect.relational._parts import Attention, Sums


def _static(default: Any = dataclasses.MISSING) -> Any:
    return dataclasses.field(default=default, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RelGraph:
    """A graph with typed edges, and every order, list and tile that relational layers follow.

    Make one with `from_edges` (or, inside a program, with `relational.block`). A pytree of int32
    arrays with static sizes: pass it to `jit` as an argument. "Destination order" is edges sorted
    stably by (destination, relation, source); p is a position in it.

    With `pad_to`, the shapes and static fields of two graphs are equal wherever their
    `pad_to`, num_relations, num_types, compaction and attention are, so that they share
    a compiled program:

    - nodes from the graph's own number on are isolated, and of type 0;
    - `edge_ids`, `outgoing_edges` and `far_edges` stay permutations: past the edges each position
      stands for itself. Values of edges that do not exist are ignored, and results for them mean
      nothing;
    - other entries past the edges are -1 and belong to no row, their scales are 0;
    - tiles without slots have weight -1 and nodes -1, and follow the others of their part. With
      compaction "min" both parts have room for every edge; "src" takes half as much;
    - items of no work are (0, 0, 0, 0), heavy rows and chunks of no work begin with -1;
    - pairs that do not occur have no chunks, and stand for relation 0 and type 0.

    Attributes:
        edge_ids: `[num_edges]`, the caller's edge at each position p.
        incoming: rows are destinations, entries positions p, indices sources.
        outgoing: rows are sources, entries sorted by (source, p), indices destinations.
        outgoing_edges: `[num_edges]`, the position p of each entry of `outgoing`.
        sums: what `rgcn_conv` follows.
        attention: what `rgat_conv` and `hgt_conv` follow; None if built without.
        node_tiles: all nodes in tiles of one node type; None without ntype. No lists.
        ntype: `[num_nodes]`, each node's type, or None.
        relation_counts: `[num_relations, 3]`: edges, unique sources and unique destinations of
            each relation, for `explain`; None where they are not known.
        num_src: number of sources; equal to num_dst but in a block.
        num_dst: number of destinations.
        num_edges: number of edge values (with `pad_to`: its num_edges).
        num_relations: number of relations.
        num_types: number of node types, 0 without ntype.
        compaction: "min", "src" or "none", as in `from_edges`.
        padded: whether it was built with `pad_to`.

    Source: Hector (arXiv:2301.06284), section 4 (compact materialization); one pair per
    relation and source or destination, whichever are fewer, is this package's.
    """

    edge_ids: Int[Array, " edges"]
    incoming: Lists
    outgoing: Lists
    outgoing_edges: Int[Array, " edges"]
    sums: Sums
    attention: Attention | None = None
    node_tiles: Tiles | None = None
    ntype: Int[Array, " nodes"] | None = None
    relation_counts: Int[Array, "relations 3"] | None = None
    num_src: int = _static()
    num_dst: int = _static()
    num_edges: int = _static()
    num_relations: int = _static()
    num_types: int = _static(0)
    compaction: str = _static("min")
    padded: bool = _static(False)

    @classmethod
    def from_edges(
        cls,
        src: ArrayLike,
        dst: ArrayLike,
        etype: ArrayLike,
        *,
        num_nodes: int,
        num_relations: int | None = None,
        ntype: ArrayLike | None = None,
        num_types: int | None = None,
        compaction: str = "min",
        attention: bool = True,
        pad_to: Mapping[str, int] | None = None,
        progress: bool | Callable[[str], None] | None = None,
    ) -> RelGraph:
        """Plans a graph on the host, once: seconds for tens of millions of edges.

        Args:
            src: `[num_edges]`, any integer type: the source of each edge.
            dst: `[num_edges]`, its destination.
            etype: `[num_edges]`, its relation.
            num_nodes: number of nodes, below 2^31.
            num_relations: number of relations; by default up to the largest in etype.
            ntype: `[num_nodes]`, each node's type, for `hgt_conv`.
            num_types: number of node types; by default up to the largest in ntype.
            compaction: which pairs share a row of a typed linear map: "min" (per relation unique
                sources or unique destinations, whichever are fewer), "src" (unique sources) or
                "none" (a row per edge, for comparison).
            attention: whether to plan for `rgat_conv` and `hgt_conv` too.
            pad_to: `{"num_nodes": n, "num_edges": m}` to make room for; needs num_relations, and
                num_types with ntype. See the class for what padding holds.
            progress: True shows a line on stderr, False none, None one after two seconds; a
                function is called with the name of each stage, and what it raises ends the build.

        Returns:
            `RelGraph`, its arrays on the default device.

        Raises:
            TypeError: an array is not of integers, or traced.
            ValueError: an array has the wrong shape or a value out of range, a size does not
                fit int32, the graph does not fit pad_to, or compaction is unknown.

        Example:
            >>> from jaxdirect.relational import RelGraph
            >>> RelGraph.from_edges([0, 1, 1], [2, 2, 0], [0, 1, 0], num_nodes=3)
            RelGraph(num_nodes=3, num_edges=3, num_relations=2)
        """
        edges = _edges.check(
            src, dst, etype, num_nodes, num_relations, ntype, num_types, compaction, pad_to
        )
        return cls(**_build.build(edges, compaction, attention, progress))

    def __repr__(self) -> str:
        parts = [f"num_nodes={self.num_nodes}", f"num_edges={self.num_edges}"]
        if self.num_src != self.num_dst:
            parts.insert(1, f"num_src={self.num_src}")
        parts.append(f"num_relations={self.num_relations}")
        if self.num_types:
            parts.append(f"num_types={self.num_types}")
        if self.compaction != "min":
            parts.append(f"compaction={self.compaction!r}")
        if self.attention is None:
            parts.append("attention=False")
        if self.padded:
            parts.append("padded=True")
        return f"RelGraph({', '.join(parts)})"

    @property
    def has_gaps(self) -> bool:
        """Whether rows of `incoming` have empty places (-1), as those of a block may."""
        return self.relation_counts is None

    @property
    def num_nodes(self) -> int:
        """Number of nodes (of destinations, where a block tells them from sources)."""
        return self.num_dst

    def explain(self) -> str:
        """What was planned: sizes, each relation's chosen side and rows, and bytes by part.

        Returns:
            A table. It reads the arrays, so that it needs values (not under `jit`).

        Raises:
            TypeError: the graph is traced.
        """
        return _explain.explain(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the plan to an uncompressed .npz file, whole or not at all.

        Args:
            path: the file, replaced if it exists; its name is taken as it is.

        Raises:
            TypeError: the graph is traced.
        """
        _store.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RelGraph:
        """Reads what `save` wrote.

        Args:
            path: the file.

        Returns:
            `RelGraph`, equal to the saved one, its arrays on the default device.

        Raises:
            ValueError: the file is missing, truncated, of another version or no saved graph.
        """
        return _store.load(cls, path)
