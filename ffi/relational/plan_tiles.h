#pragma once

// Tiles of a plan: from edge records sorted by (weight, near node, far node) to slots.

#include <cstdint>
#include <vector>

#include "common/parallel.h"
#include "common/status.h"
#include "relational/lists.h"
#include "relational/plan.h"
#include "relational/plan_sort.h"

namespace jaxdirect::relational {

// The records [begin, end) of one weight.
struct Group {
  int64_t weight = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

// Near nodes in a window of tiles: 16 MiB of 64 float32 columns.
inline constexpr uint32_t kWindow = 1 << 16;

// Which records share a slot: those of one near node, at most so many.
struct SlotRule {
  bool near_src = true;
  int64_t most_entries = 1;
};

struct SlotCount {
  int64_t pairs = 0;  // near nodes that occur
  int64_t slots = 0;
};

// Tiles that so many slots of one weight fill.
inline int64_t tiles_for(int64_t slots) { return (slots + kTile - 1) / kTile; }

// Counts for each group.
std::vector<SlotCount> count_slots(const Executor& executor, const Records& records,
                                   const std::vector<Group>& groups, SlotRule rule);

// A tile of the final order: its records, and where their entries go.
struct TileSpan {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t entry = 0;
  int32_t weight = 0;
};

// Cuts the groups into tiles, ordered by (window of the first near node, weight, near node): the
// rows of a window stay in a GPU's L2 while its weights pass one after the other.
std::vector<TileSpan> lay_out_tiles(const Executor& executor, const Records& records,
                                    const std::vector<Group>& groups, SlotRule rule);

// An error where 64 slots for each of so many tiles are more than int32 counts.
Status check_tiles(int64_t tiles);

// Makes room for so many tiles and edges, all empty.
void size_tiles(int64_t tiles, int64_t edges, PlanTiles* out);

// Where fill_tiles puts what it finds.
struct TileTarget {
  PlanTiles* tiles = nullptr;
  int64_t first_tile = 0;
  int64_t end_tile = 0;  // from the last tile up to here there are only empty ones
  int64_t first_entry = 0;
  Ints* slots = nullptr;               // [num_edges]: the slot of each edge
  const Floats* edge_scale = nullptr;  // [num_edges], or null
  Floats* far_scale = nullptr;         // edge_scale of each entry of tiles->far
};

void fill_tiles(const Executor& executor, const Records& records,
                const std::vector<TileSpan>& spans, SlotRule rule, const TileTarget& target);

// What follows from nodes, weight_of and far: weight_tiles, chunks and chunk_indptr for so many
// weights. `padded`: the number of chunks follows from the numbers of tiles and weights.
void add_chunks(int64_t num_weights, bool padded, PlanTiles* tiles);

// All nodes in tiles of one type each, without lists.
Status tile_nodes(const Executor& executor, const PlanInput& input, PlanTiles* tiles);

}  // namespace jaxdirect::relational
