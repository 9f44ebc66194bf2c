#pragma once

// How large the arrays of a padded plan are: upper bounds that follow from the counts alone.

#include <algorithm>
#include <cstdint>

#include "relational/lists.h"

namespace jaxdirect::relational {

// Rows of more than a piece of entries have at least one more of them.
inline int64_t most_heavy(int64_t entries) { return entries / (piece_of(entries) + 1); }

// A row of a piece and one entry has two pieces, and no row has more for its entries.
inline int64_t most_partials(int64_t entries) { return 2 * entries / (piece_of(entries) + 1); }

// An item ends at the most rows, where it and the next row have more than a piece of entries
// (which count for two items at most), or before a heavy row.
inline int64_t most_items(int64_t rows, int64_t entries) {
  return rows == 0 ? 0 : rows / item_rows_of(entries) + 3 * entries / (piece_of(entries) + 1) + 1;
}

// A (node, weight) pair has a slot, and one more for each full piece of its edges.
inline int64_t most_slots(int64_t edges, int64_t nodes, int64_t weights_per_node, bool compact) {
  if (!compact) return edges;
  const int64_t pairs =
      nodes > 0 && weights_per_node > edges / nodes ? edges : nodes * weights_per_node;
  return std::min(edges, pairs + edges / piece_of(edges));
}

// Slots of one weight fill whole tiles.
inline int64_t most_tiles(int64_t slots, int64_t weights) {
  return (slots + (kTile - 1) * std::min(slots, weights)) / kTile;
}

// Tiles that one thread block multiplies up in the weight gradient.
inline int64_t chunk_tiles(int64_t tiles) {
  return std::clamp<int64_t>((tiles + 527) / 528, 4, 128);
}

inline int64_t most_chunks(int64_t tiles, int64_t weights) {
  const int64_t size = chunk_tiles(tiles);
  return (tiles + (size - 1) * std::min(tiles, weights)) / size;
}

// A relation has a pair with each type of its sources, or one where it has no edges.
inline int64_t most_type_pairs(int64_t edges, int64_t relations, int64_t types) {
  const int64_t by_edges = edges + relations;
  return types > 0 && relations > by_edges / types ? by_edges
                                                   : std::min(by_edges, relations * types);
}

}  // namespace jaxdirect::relational
