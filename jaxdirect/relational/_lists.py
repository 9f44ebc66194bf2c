"""The arrays that the native operations follow: rows that sum entries, and tiles of rows."""

from __future__ import annotations

import dataclasses

import jax
from jaxtyping import Array, Int

from jaxdirect.hostmem._checks import describe

TILE = 64  # slots in a tile
_PIECES = (64, 32, 16)
_MANY_ITEMS = 1 << 14


def piece_of(num_entries: int) -> int:
    """The most entries that one item of so many entries sums, as in ffi/relational/lists.h."""
    fits = (piece for piece in _PIECES if piece * _MANY_ITEMS <= num_entries)
    return next(fits, _PIECES[-1])


def item_rows_of(num_entries: int) -> int:
    """The most rows in such an item."""
    return piece_of(num_entries) // 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Lists:
    """Rows that each sum entries, in CSR, cut into items of like size.

    Item `(row, begin, end, code)`: with `code >= 1` the entries `[begin, end)` of `code` whole
    rows from `row` on; with `code < 0` a piece of one heavy row (more than `piece_of(num_entries)`
    entries), whose result is partial number `~code`; with `code == 0` no work. Entries from
    `indptr[-1]` on belong to no row and to no item.

    Attributes:
        indptr: `[num_rows + 1]`, row v has the entries `[indptr[v], indptr[v + 1])`.
        indices: `[num_entries]`, what an entry reads; out of range (-1): nothing.
        items: `[num_items, 4]`, in row order.
        heavy: `[num_heavy, 3]`: row, first partial, number of partials. Row -1: no work.
        num_partials: pieces of all heavy rows.
    """

    indptr: Int[Array, " rows_plus_one"]
    indices: Int[Array, " entries"]
    items: Int[Array, "items 4"]
    heavy: Int[Array, "heavy 3"]
    num_partials: int = dataclasses.field(metadata={"static": True})

    def __repr__(self) -> str:
        return describe(self)

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.indptr.shape[0] - 1

    @property
    def num_entries(self) -> int:
        """Number of entries that there is room for."""
        return self.indices.shape[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Tiles:
    """Compact rows of a typed linear map, 64 slots a tile.

    A slot is a (near node, weight) pair, or a piece of one with more than
    `piece_of(num_edges)` edges.
    Slot s lies in tile `s // 64`. Tiles follow one another by the window of 2^16 nodes that their
    first near node is in, then by weight, then by near node.

    Attributes:
        nodes: `[64 * num_tiles]`, the slot's near node; -1: no slot.
        weight_of: `[num_tiles]`, the weight of the tile's rows; -1: an empty tile.
        far: rows are slots, entries their edges, indices the nodes at the other end.
        far_edges: `[num_edges]`, the position in destination order of each entry's edge.
        weight_tiles: `[num_tiles]`, tiles sorted stably by weight, empty ones (-1) last.
        chunks: `[num_chunks, 3]`: weight, begin, end: runs of `weight_tiles`. Weight -1: no work.
        chunk_indptr: `[num_weights + 1]`, the chunks of each weight.
        num_direct: tiles whose near node is the edges' source; they come first.
        covers_nodes: whether every node is known to have a slot.
    """

    nodes: Int[Array, " slots"]
    weight_of: Int[Array, " tiles"]
    far: Lists
    far_edges: Int[Array, " edges"]
    weight_tiles: Int[Array, " tiles"]
    chunks: Int[Array, "chunks 3"]
    chunk_indptr: Int[Array, " weights_plus_one"]
    num_direct: int = dataclasses.field(metadata={"static": True})
    covers_nodes: bool = dataclasses.field(default=False, metadata={"static": True})

    def __repr__(self) -> str:
        return describe(self)

    @property
    def num_tiles(self) -> int:
        """Number of tiles."""
        return self.weight_of.shape[0]

    @property
    def num_slots(self) -> int:
        """Number of slots, with those that only fill a tile."""
        return self.nodes.shape[0]

    @property
    def num_weights(self) -> int:
        """Number of weights."""
        return self.chunk_indptr.shape[0] - 1
