#include <algorithm>
#include <limits>
#include <new>
#include <utility>

#include "relational/plan.h"
#include "relational/plan_links.h"
#include "relational/plan_planner.h"
#include "relational/plan_sizes.h"

namespace jaxdirect::relational {

Status Planner::run() {
  JAXDIRECT_RETURN_IF_ERROR(check_counts());
  JAXDIRECT_RETURN_IF_ERROR(step("sorting edges by destination"));
  order_by_destination();
  JAXDIRECT_RETURN_IF_ERROR(step("compacting destinations"));
  JAXDIRECT_RETURN_IF_ERROR(compact_destinations());
  JAXDIRECT_RETURN_IF_ERROR(step("sorting edges by source"));
  order_by_source();
  JAXDIRECT_RETURN_IF_ERROR(step("compacting sources"));
  JAXDIRECT_RETURN_IF_ERROR(compact_sources());
  JAXDIRECT_RETURN_IF_ERROR(step("linking sums"));
  link_sums();
  JAXDIRECT_RETURN_IF_ERROR(step("linking attention"));
  if (input_.attention) link_attention();
  if (input_.ntype) {
    JAXDIRECT_RETURN_IF_ERROR(tile_nodes(executor_, input_, &plan_.node_tiles));
  }
  JAXDIRECT_RETURN_IF_ERROR(step("dividing the work"));
  return divide_all();
}

Status Planner::step(const char* name) {
  return on_step_(name) ? Status::ok() : Status::error("RelGraph: stopped before ", name);
}

Status Planner::check_counts() const {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (room_ > kMost || input_.num_nodes > kMost || input_.num_relations > kMost ||
      input_.num_types > kMost) {
    return Status::error(
        "RelGraph: edges, nodes, relations and node types must be fewer than 2^31 each; split the "
        "graph");
  }
  if (!padded_) return Status::ok();
  if (room_ < num_edges()) {
    return Status::error("RelGraph: room for ", room_, " edges, got ", num_edges());
  }
  const int64_t parts = input_.compaction == Compaction::kMin ? 2 : 1;
  JAXDIRECT_RETURN_IF_ERROR(check_tiles(parts * room_for_tiles(input_.num_relations)));
  return check_tiles(input_.attention ? room_for_tiles(room_for_pairs()) : 0);
}

void Planner::link_sums() {
  const int64_t room = padded_ ? room_ : -1;
  const int64_t middle = plan_.sums.tiles.num_direct * kTile;
  SlotLinks links;
  links.indptr = &plan_.incoming.indptr;
  links.slots = &sum_slots_;
  links.edge_scale = &edge_scale_;
  links.first_whole = middle;
  links.end_whole = static_cast<int64_t>(plan_.sums.tiles.nodes.size());
  link_slots(executor_, links, room, &plan_.sums.into, &plan_.sums.into_scale);

  Ints slots(num_edges());
  each(num_edges(), [&](int64_t i) { slots[i] = sum_slots_[by_source_[i]]; });
  links.indptr = &plan_.outgoing.indptr;
  links.slots = &slots;
  links.edges = &by_source_;
  links.first_whole = 0;
  links.end_whole = middle;
  link_slots(executor_, links, room, &plan_.sums.outof, &plan_.sums.outof_scale);
}

void Planner::link_attention() {
  PlanAttention& attention = plan_.attention;
  const int64_t room = padded_ ? room_for_slots() : -1;
  const auto list = [&](bool shared, const PlanTiles& own, PlanLists* lists) {
    const PlanTiles& tiles = shared ? plan_.sums.tiles : own;
    list_slots(executor_, tiles.nodes, input_.num_nodes, room, &records_, &scratch_, lists);
  };
  list(attention.shares_src_tiles, attention.src_tiles, &attention.src_rows);
  list(attention.shares_dst_tiles, attention.dst_tiles, &attention.dst_rows);
  if (attention.shares_src_tiles) attention.src_slots = std::move(sum_slots_);
  if (attention.shares_dst_tiles) attention.dst_slots = std::move(sum_slots_);
  const PlanTiles& tiles = attention.shares_src_tiles ? plan_.sums.tiles : attention.src_tiles;
  attention.far_dst_slots.resize(room_);
  each(room_, [&](int64_t entry) {
    attention.far_dst_slots[entry] = attention.dst_slots[tiles.far_edges[entry]];
  });
}

Status Planner::divide_all() {
  PlanAttention& attention = plan_.attention;
  std::vector<PlanLists*> lists = {&plan_.sums.tiles.far, &plan_.incoming, &plan_.outgoing,
                                   &plan_.sums.into, &plan_.sums.outof};
  add_chunks(input_.num_relations, padded_, &plan_.sums.tiles);
  if (input_.attention) {
    lists.insert(lists.end(), {&attention.src_rows, &attention.dst_rows});
    if (!attention.shares_src_tiles) {
      lists.insert(lists.begin(), &attention.src_tiles.far);
      add_chunks(num_pairs_, padded_, &attention.src_tiles);
    }
    if (!attention.shares_dst_tiles) {
      lists.insert(lists.begin(), &attention.dst_tiles.far);
      add_chunks(input_.num_relations, padded_, &attention.dst_tiles);
    }
  }
  std::vector<Status> statuses(lists.size(), Status::ok());
  parallel_for(executor_, lists.size(), 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      try {
        statuses[i] = divide(padded_, lists[i]);
      } catch (const std::bad_alloc&) {  // nothing may escape from a thread
        statuses[i] = Status::error("RelGraph: out of memory");
      }
    }
  });
  for (const Status& status : statuses) JAXDIRECT_RETURN_IF_ERROR(status);
  return Status::ok();
}

Status build_plan(const Executor& executor, const PlanInput& input,
                  const std::function<bool(const std::string&)>& on_step, Plan* plan) {
  return Planner(executor, input, on_step, plan).run();
}

}  // namespace jaxdirect::relational
