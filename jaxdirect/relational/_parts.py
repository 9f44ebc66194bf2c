"""The two halves of a relational graph's plan: sums (RGCN) and attention (RGAT, HGT)."""

from __future__ import annotations

import dataclasses

import jax
from jaxtyping import Array, Float, Int

from jaxdirect.hostmem._checks import describe
from jaxdirect.relational._lists import Lists, Tiles


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sums:
    """What a sum over typed messages follows. c: edges of a relation into a destination.

    Attributes:
        tiles: compact rows, near the source for the first `tiles.num_direct` tiles (relations
            with fewer unique sources) and near the destination for the others.
        into: rows are destinations, indices slots: one entry per edge of a relation near the
            source, one per slot of the others; in order of relation, then slot.
        outof: rows are sources, indices slots: one entry per slot of a relation near the
            source, one per edge of the others; in the same order.
        far_scale: 1 / c of each entry of `tiles.far`; 0 where there is no edge.
        into_scale: 1 / c of each edge entry of `into`, 1 of each slot entry.
        outof_scale: 1 / c of each edge entry of `outof`, 1 of each slot entry.
    """

    tiles: Tiles
    into: Lists
    outof: Lists
    far_scale: Float[Array, " entries"]
    into_scale: Float[Array, " into"]
    outof_scale: Float[Array, " outof"]

    def __repr__(self) -> str:
        return describe(self)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Attention:
    """What attention over typed messages follows.

    Attributes:
        src_tiles: compact rows near the source, far the destinations; a weight is a
            (relation, source's node type) pair.
        dst_tiles: compact rows near the destination, far the sources; a weight is a relation.
        src_slots: `[num_edges]`, each edge's slot in `src_tiles`, in destination order.
        dst_slots: `[num_edges]`, each edge's slot in `dst_tiles`, in destination order.
        far_dst_slots: the same in the order of `src_tiles.far`.
        src_rows: rows are sources, indices their slots in `src_tiles`, ascending.
        dst_rows: rows are destinations, indices their slots in `dst_tiles`, ascending.
        pair_relation: `[num_pairs]`, the relation of each weight of `src_tiles`.
        pair_type: `[num_pairs]`, its node type; 0 without node types.
    """

    src_tiles: Tiles
    dst_tiles: Tiles
    src_slots: Int[Array, " edges"]
    dst_slots: Int[Array, " edges"]
    far_dst_slots: Int[Array, " edges"]
    src_rows: Lists
    dst_rows: Lists
    pair_relation: Int[Array, " pairs"]
    pair_type: Int[Array, " pairs"]

    def __repr__(self) -> str:
        return describe(self)
