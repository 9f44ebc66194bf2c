#pragma once

// How build_plan goes about it: the edges go through four orders, each a stable sort of the one
// before: (dst, relation, src) -> (relation, dst, src) -> (src, relation, dst) ->
// (relation, src, dst).

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/parallel.h"
#include "common/status.h"
#include "relational/lists.h"
#include "relational/plan.h"
#include "relational/plan_lists.h"
#include "relational/plan_sort.h"
#include "relational/plan_tiles.h"

namespace jaxdirect::relational {

class Planner {
 public:
  using OnStep = std::function<bool(const std::string&)>;

  Planner(const Executor& executor, const PlanInput& input, const OnStep& on_step, Plan* plan)
      : executor_(executor),
        input_(input),
        on_step_(on_step),
        plan_(*plan),
        padded_(input.pad_edges >= 0),
        room_(padded_ ? input.pad_edges : input.num_edges),
        compact_(input.compaction != Compaction::kNone) {}

  Status run();

 private:
  // plan_cpu.cc
  Status step(const char* name);
  Status check_counts() const;
  void link_sums();
  void link_attention();
  Status divide_all();

  // plan_orders_cpu.cc
  void order_by_destination();
  void fill_scales();
  void group_by_relation();
  void order_by_source();
  std::vector<Group> group_by_pair();

  // plan_compact_cpu.cc
  Status compact_destinations();
  Status compact_sources();
  void choose_sides(const std::vector<SlotCount>& destination_counts);
  Status fill_sums(const std::vector<Group>& groups, bool near_src);
  Status fill_attention(const std::vector<Group>& groups, bool near_src, int64_t room,
                        PlanTiles* tiles, Ints* slots);
  void make_room(int64_t num_tiles, PlanTiles* tiles, Ints* slots);
  int64_t room_for_slots() const;
  int64_t room_for_tiles(int64_t num_weights) const;
  int64_t room_for_pairs() const;

  int64_t num_edges() const { return input_.num_edges; }
  SlotRule rule(bool near_src) const { return {near_src, compact_ ? piece_of(room_) : 1}; }

  template <typename Body>
  void each(int64_t count, const Body& body) const {
    parallel_for(executor_, count, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) body(i);
    });
  }

  template <typename Key>
  void sort(int64_t num_keys, const Key& key) {
    sort_records(executor_, &records_, &scratch_, bits_for(num_keys), key);
  }
  void sort_by_relation() {
    sort(input_.num_relations, [](const Record& record) { return record.weight; });
  }

  const Executor& executor_;
  const PlanInput& input_;
  const OnStep& on_step_;
  Plan& plan_;
  const bool padded_;
  const int64_t room_;  // edges
  const bool compact_;

  Records records_;  // the edges, in the order of the moment
  Records scratch_;
  std::vector<Group> relations_;
  std::vector<SlotCount> source_counts_;  // of each relation
  std::vector<Group> direct_;             // relations near the source in the sums,
  std::vector<Group> others_;             // and near the destination
  int64_t num_other_tiles_ = 0;
  int64_t direct_edges_ = 0;
  int64_t num_pairs_ = 0;
  Floats edge_scale_;  // 1 / (edges of the relation into the destination)
  Ints sum_slots_;     // each edge's slot in the sums
  Ints by_source_;     // edges by (source, relation, destination)
};

}  // namespace jaxdirect::relational
