#include <algorithm>

#include "relational/plan_planner.h"
#include "relational/plan_sizes.h"

namespace jaxdirect::relational {

int64_t Planner::room_for_slots() const {
  return most_slots(room_, input_.num_nodes, input_.num_relations, compact_);
}

int64_t Planner::room_for_tiles(int64_t num_weights) const {
  return most_tiles(room_for_slots(), num_weights);
}

int64_t Planner::room_for_pairs() const {
  if (!input_.ntype) return input_.num_relations;
  return most_type_pairs(room_, input_.num_relations, input_.num_types);
}

Status Planner::compact_destinations() {
  sort_by_relation();
  choose_sides(count_slots(executor_, records_, relations_, rule(false)));
  const auto edges = [](const Group& group) { return group.end - group.begin; };
  for (const Group& group : direct_) direct_edges_ += edges(group);
  JAXDIRECT_RETURN_IF_ERROR(fill_sums(others_, false));
  if (!input_.attention) return Status::ok();
  PlanAttention& attention = plan_.attention;
  attention.shares_dst_tiles = !padded_ && direct_edges_ == 0 && num_edges() > 0;
  if (attention.shares_dst_tiles) return Status::ok();
  return fill_attention(relations_, false, room_for_tiles(input_.num_relations),
                        &attention.dst_tiles, &attention.dst_slots);
}

Status Planner::compact_sources() {
  sort_by_relation();
  JAXDIRECT_RETURN_IF_ERROR(fill_sums(direct_, true));
  if (!input_.attention) return Status::ok();
  PlanAttention& attention = plan_.attention;
  std::vector<Group> pairs = relations_;
  if (input_.ntype) {
    pairs = group_by_pair();
  } else {
    for (const Group& group : pairs) {
      attention.pair_relation.push_back(static_cast<int32_t>(group.weight));
      attention.pair_type.push_back(0);
    }
  }
  num_pairs_ = padded_ ? room_for_pairs() : static_cast<int64_t>(pairs.size());
  pad(&attention.pair_relation, pairs.size(), num_pairs_, 0);
  pad(&attention.pair_type, pairs.size(), num_pairs_, 0);
  // Padded plans may not let it depend on the edges.
  attention.shares_src_tiles =
      padded_ ? input_.compaction != Compaction::kMin && input_.num_types <= 1
              : direct_edges_ == num_edges() && num_pairs_ == input_.num_relations;
  if (attention.shares_src_tiles) return Status::ok();
  return fill_attention(pairs, true, room_for_tiles(num_pairs_), &attention.src_tiles,
                        &attention.src_slots);
}

void Planner::choose_sides(const std::vector<SlotCount>& destination_counts) {
  for (const Group& relation : relations_) {
    const SlotCount& sources = source_counts_[relation.weight];
    const SlotCount& destinations = destination_counts[relation.weight];
    plan_.relation_sources.push_back(static_cast<int32_t>(sources.pairs));
    plan_.relation_destinations.push_back(static_cast<int32_t>(destinations.pairs));
    const bool direct =
        input_.compaction != Compaction::kMin || sources.pairs <= destinations.pairs;
    (direct ? direct_ : others_).push_back(relation);
    const int64_t tiles = tiles_for((direct ? sources : destinations).slots);
    (direct ? plan_.sums.tiles.num_direct : num_other_tiles_) += tiles;
  }
  if (padded_) {
    const int64_t room = room_for_tiles(input_.num_relations);
    plan_.sums.tiles.num_direct = room;
    num_other_tiles_ = input_.compaction == Compaction::kMin ? room : 0;
  }
}

Status Planner::fill_sums(const std::vector<Group>& groups, bool near_src) {
  PlanTiles& tiles = plan_.sums.tiles;
  if (tiles.nodes.empty()) {
    JAXDIRECT_RETURN_IF_ERROR(check_tiles(tiles.num_direct + num_other_tiles_));
    make_room(tiles.num_direct + num_other_tiles_, &tiles, &sum_slots_);
    pad(&plan_.sums.far_scale, num_edges(), room_, 0.0F);
  }
  TileTarget target;
  target.tiles = &tiles;
  target.first_tile = near_src ? 0 : tiles.num_direct;
  target.end_tile = tiles.num_direct + (near_src ? 0 : num_other_tiles_);
  target.first_entry = near_src ? 0 : direct_edges_;
  target.slots = &sum_slots_;
  target.edge_scale = &edge_scale_;
  target.far_scale = &plan_.sums.far_scale;
  fill_tiles(executor_, records_, lay_out_tiles(executor_, records_, groups, rule(near_src)),
             rule(near_src), target);
  return Status::ok();
}

Status Planner::fill_attention(const std::vector<Group>& groups, bool near_src, int64_t room,
                               PlanTiles* tiles, Ints* slots) {
  const auto spans = lay_out_tiles(executor_, records_, groups, rule(near_src));
  const int64_t num_tiles = padded_ ? room : static_cast<int64_t>(spans.size());
  JAXDIRECT_RETURN_IF_ERROR(check_tiles(num_tiles));
  make_room(num_tiles, tiles, slots);
  tiles->num_direct = near_src ? num_tiles : 0;
  TileTarget target;
  target.tiles = tiles;
  target.end_tile = num_tiles;
  target.slots = slots;
  fill_tiles(executor_, records_, spans, rule(near_src), target);
  return Status::ok();
}

// Entries and slots past those of the edges are set, all others are yet to be filled.
void Planner::make_room(int64_t num_tiles, PlanTiles* tiles, Ints* slots) {
  size_tiles(num_tiles, room_, tiles);
  for (int64_t p = num_edges(); p < room_; ++p) {
    tiles->far.indices[p] = -1;
    tiles->far_edges[p] = static_cast<int32_t>(p);
  }
  pad(slots, num_edges(), room_, -1);
}

}  // namespace jaxdirect::relational
