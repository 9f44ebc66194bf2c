#include <algorithm>
#include <limits>

#include "relational/plan_lists.h"
#include "relational/plan_sizes.h"
#include "relational/plan_tiles.h"

namespace jaxdirect::relational {
namespace {

// A run of a group's records that holds all of each of its near nodes.
struct Unit {
  int64_t group = 0;
  int64_t begin = 0;
  int64_t end = 0;
  SlotCount count;
  int64_t first_slot = 0;  // in the group
};

constexpr int64_t kUnitRecords = 1 << 16;

template <bool kNearSrc>
uint32_t near_of(const Record& record) {
  return kNearSrc ? record.src : record.dst;
}

// The end of the slot that begins with record `begin`.
template <bool kNearSrc>
int64_t slot_end(const Records& records, int64_t begin, int64_t end, int64_t most_entries) {
  const uint32_t near = near_of<kNearSrc>(records[begin]);
  const int64_t last = std::min(end, begin + most_entries);
  int64_t i = begin + 1;
  while (i < last && near_of<kNearSrc>(records[i]) == near) ++i;
  return i;
}

template <bool kNearSrc>
std::vector<Unit> count_units(const Executor& executor, const Records& records,
                              const std::vector<Group>& groups, SlotRule rule) {
  std::vector<Unit> units;
  for (int64_t group = 0; group < static_cast<int64_t>(groups.size()); ++group) {
    const int64_t last = groups[group].end;
    for (int64_t begin = groups[group].begin; begin < last;) {
      int64_t end = std::min(last, begin + kUnitRecords);
      while (end < last && near_of<kNearSrc>(records[end]) == near_of<kNearSrc>(records[end - 1])) {
        ++end;
      }
      Unit unit;
      unit.group = group;
      unit.begin = begin;
      unit.end = end;
      units.push_back(unit);
      begin = end;
    }
  }
  parallel_for(executor, units.size(), 1, [&](int64_t first, int64_t last) {
    for (int64_t u = first; u < last; ++u) {
      Unit& unit = units[u];
      SlotCount count;
      for (int64_t i = unit.begin; i < unit.end;) {
        const bool same =
            i > unit.begin && near_of<kNearSrc>(records[i]) == near_of<kNearSrc>(records[i - 1]);
        if (!same) ++count.pairs;
        ++count.slots;
        i = slot_end<kNearSrc>(records, i, unit.end, rule.most_entries);
      }
      unit.count = count;
    }
  });
  return units;
}

std::vector<SlotCount> add_up(const std::vector<Unit>& units, int64_t num_groups) {
  std::vector<SlotCount> counts(num_groups);
  for (const Unit& unit : units) {
    counts[unit.group].pairs += unit.count.pairs;
    counts[unit.group].slots += unit.count.slots;
  }
  return counts;
}

template <bool kNearSrc>
std::vector<TileSpan> lay_out(const Executor& executor, const Records& records,
                              const std::vector<Group>& groups, SlotRule rule) {
  std::vector<Unit> units = count_units<kNearSrc>(executor, records, groups, rule);
  std::vector<int64_t> first_tile(groups.size() + 1, 0);
  const std::vector<SlotCount> counts = add_up(units, groups.size());
  for (std::size_t group = 0; group < groups.size(); ++group) {
    first_tile[group + 1] = first_tile[group] + tiles_for(counts[group].slots);
  }
  for (std::size_t u = 1; u < units.size(); ++u) {
    if (units[u].group != units[u - 1].group) continue;
    units[u].first_slot = units[u - 1].first_slot + units[u - 1].count.slots;
  }

  // By weight, then near node: each group's tiles follow one another.
  const int64_t num_tiles = first_tile.back();
  std::vector<TileSpan> by_weight(num_tiles);
  parallel_for(executor, units.size(), 1, [&](int64_t first, int64_t last) {
    for (int64_t u = first; u < last; ++u) {
      int64_t slot = units[u].first_slot;
      TileSpan* spans = by_weight.data() + first_tile[units[u].group];
      for (int64_t i = units[u].begin; i < units[u].end; ++slot) {
        if (slot % kTile == 0) spans[slot / kTile].begin = i;
        i = slot_end<kNearSrc>(records, i, units[u].end, rule.most_entries);
      }
    }
  });
  for (std::size_t group = 0; group < groups.size(); ++group) {
    for (int64_t tile = first_tile[group]; tile < first_tile[group + 1]; ++tile) {
      const bool last = tile + 1 == first_tile[group + 1];
      by_weight[tile].end = last ? groups[group].end : by_weight[tile + 1].begin;
      by_weight[tile].weight = static_cast<int32_t>(groups[group].weight);
    }
  }

  // A stable sort by the window of the first near node leaves each window's by weight.
  Records order(num_tiles);
  Records scratch;
  uint32_t most = 0;
  for (int64_t tile = 0; tile < num_tiles; ++tile) {
    order[tile].src = near_of<kNearSrc>(records[by_weight[tile].begin]) / kWindow;
    order[tile].edge = static_cast<uint32_t>(tile);
    most = std::max(most, order[tile].src);
  }
  sort_records(executor, &order, &scratch, bit_width(most), [](const Record& r) { return r.src; });
  std::vector<TileSpan> spans(num_tiles);
  int64_t entry = 0;
  for (int64_t tile = 0; tile < num_tiles; ++tile) {
    spans[tile] = by_weight[order[tile].edge];
    spans[tile].entry = entry;
    entry += spans[tile].end - spans[tile].begin;
  }
  return spans;
}

template <bool kNearSrc>
void fill(const Executor& executor, const Records& records, const std::vector<TileSpan>& spans,
          SlotRule rule, const TileTarget& target) {
  PlanTiles& tiles = *target.tiles;
  parallel_for(executor, spans.size(), 64, [&](int64_t first, int64_t last) {
    for (int64_t tile = first; tile < last; ++tile) {
      const TileSpan& span = spans[tile];
      const int64_t number = target.first_tile + tile;
      int64_t slot = number * kTile;
      int64_t entry = target.first_entry + span.entry;
      tiles.weight_of[number] = span.weight;
      for (int64_t i = span.begin; i < span.end; ++slot) {
        tiles.nodes[slot] = static_cast<int32_t>(near_of<kNearSrc>(records[i]));
        tiles.far.indptr[slot] = static_cast<int32_t>(entry);
        const int64_t end = slot_end<kNearSrc>(records, i, span.end, rule.most_entries);
        for (; i < end; ++i, ++entry) {
          const Record& record = records[i];
          tiles.far.indices[entry] = static_cast<int32_t>(near_of<!kNearSrc>(record));
          tiles.far_edges[entry] = static_cast<int32_t>(record.edge);
          (*target.slots)[record.edge] = static_cast<int32_t>(slot);
          if (target.far_scale) (*target.far_scale)[entry] = (*target.edge_scale)[record.edge];
        }
      }
      for (; slot < (number + 1) * kTile; ++slot) {
        tiles.nodes[slot] = -1;
        tiles.far.indptr[slot] = static_cast<int32_t>(entry);
      }
    }
  });
  // The tiles after them hold nothing, but their lists go on from here.
  const int64_t end = spans.empty() ? target.first_entry
                                    : target.first_entry + spans.back().entry + spans.back().end -
                                          spans.back().begin;
  const int64_t rest = target.first_tile + static_cast<int64_t>(spans.size());
  std::fill(tiles.weight_of.begin() + rest, tiles.weight_of.begin() + target.end_tile, -1);
  std::fill(tiles.nodes.begin() + rest * kTile, tiles.nodes.begin() + target.end_tile * kTile, -1);
  std::fill(tiles.far.indptr.begin() + rest * kTile,
            tiles.far.indptr.begin() + target.end_tile * kTile + 1, static_cast<int32_t>(end));
}

}  // namespace

std::vector<SlotCount> count_slots(const Executor& executor, const Records& records,
                                   const std::vector<Group>& groups, SlotRule rule) {
  const auto count = rule.near_src ? count_units<true> : count_units<false>;
  return add_up(count(executor, records, groups, rule), groups.size());
}

std::vector<TileSpan> lay_out_tiles(const Executor& executor, const Records& records,
                                    const std::vector<Group>& groups, SlotRule rule) {
  const auto run = rule.near_src ? lay_out<true> : lay_out<false>;
  return run(executor, records, groups, rule);
}

void fill_tiles(const Executor& executor, const Records& records,
                const std::vector<TileSpan>& spans, SlotRule rule, const TileTarget& target) {
  const auto run = rule.near_src ? fill<true> : fill<false>;
  run(executor, records, spans, rule, target);
}

Status check_tiles(int64_t tiles) {
  if (tiles <= std::numeric_limits<int32_t>::max() / kTile) return Status::ok();
  return Status::error("RelGraph: the plan needs ", tiles,
                       " tiles of 64 compact rows, more than int32 counts; split the graph");
}

void size_tiles(int64_t tiles, int64_t edges, PlanTiles* out) {
  out->nodes.resize(tiles * kTile);
  out->weight_of.resize(tiles);
  out->far.indptr.resize(tiles * kTile + 1);
  out->far.indices.resize(edges);
  out->far_edges.resize(edges);
  out->far.indptr[0] = 0;
}

void add_chunks(int64_t num_weights, bool padded, PlanTiles* tiles) {
  const auto num_tiles = static_cast<int64_t>(tiles->weight_of.size());
  std::vector<int64_t> first(num_weights + 1, 0);
  for (const int32_t weight : tiles->weight_of) {
    if (weight >= 0) ++first[weight + 1];
  }
  for (int64_t weight = 0; weight < num_weights; ++weight) first[weight + 1] += first[weight];

  const int64_t size = chunk_tiles(num_tiles);
  tiles->chunk_indptr.assign(1, 0);
  tiles->chunks.clear();
  for (int64_t weight = 0; weight < num_weights; ++weight) {
    for (int64_t begin = first[weight]; begin < first[weight + 1]; begin += size) {
      const int64_t end = std::min(begin + size, first[weight + 1]);
      for (const int64_t part : {weight, begin, end}) tiles->chunks.push_back(part);
    }
    tiles->chunk_indptr.push_back(static_cast<int32_t>(tiles->chunks.size() / 3));
  }
  if (padded) {
    const auto used = static_cast<int64_t>(tiles->chunks.size());
    pad(&tiles->chunks, used, 3 * most_chunks(num_tiles, num_weights), 0);
    for (int64_t at = used; at < static_cast<int64_t>(tiles->chunks.size()); at += 3) {
      tiles->chunks[at] = -1;
    }
  }

  tiles->weight_tiles.assign(num_tiles, -1);
  for (int64_t tile = 0; tile < num_tiles; ++tile) {
    const int32_t weight = tiles->weight_of[tile];
    if (weight >= 0) tiles->weight_tiles[first[weight]++] = static_cast<int32_t>(tile);
  }
}

Status tile_nodes(const Executor& executor, const PlanInput& input, PlanTiles* tiles) {
  // Each node is the one record of its slot; what fill_tiles notes of edges is dropped.
  Records nodes(input.num_nodes);
  Records scratch;
  std::vector<Group> groups(input.num_types);
  for (int64_t node = 0; node < input.num_nodes; ++node) {
    const auto type = static_cast<uint32_t>(input.ntype[node]);
    const auto number = static_cast<uint32_t>(node);
    nodes[node] = {number, number, type, number};
    ++groups[type].end;
  }
  for (int64_t type = 0; type < input.num_types; ++type) {
    groups[type].weight = type;
    groups[type].begin = type == 0 ? 0 : groups[type - 1].end;
    groups[type].end += groups[type].begin;
  }
  sort_records(executor, &nodes, &scratch, bits_for(input.num_types),
               [](const Record& r) { return r.weight; });
  const SlotRule rule;
  const std::vector<TileSpan> spans = lay_out_tiles(executor, nodes, groups, rule);
  const bool padded = input.pad_edges >= 0;
  const int64_t num_tiles =
      padded ? most_tiles(input.num_nodes, input.num_types) : static_cast<int64_t>(spans.size());
  JAXDIRECT_RETURN_IF_ERROR(check_tiles(num_tiles));
  size_tiles(num_tiles, input.num_nodes, tiles);
  Ints slots(input.num_nodes);
  TileTarget target;
  target.tiles = tiles;
  target.end_tile = num_tiles;
  target.slots = &slots;
  fill_tiles(executor, nodes, spans, rule, target);
  tiles->num_direct = num_tiles;
  tiles->far.indices.clear();
  tiles->far_edges.clear();
  std::fill(tiles->far.indptr.begin(), tiles->far.indptr.end(), 0);
  add_chunks(input.num_types, padded, tiles);
  return Status::ok();
}

}  // namespace jaxdirect::relational
