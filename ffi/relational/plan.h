#pragma once

// The host-side plan of a relational graph, built once: every order, list and tile that the
// kernels follow, so that nothing is sorted inside a program.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/parallel.h"
#include "common/status.h"
#include "relational/plan_memory.h"

namespace jaxdirect::relational {

using Ints = PlanVector<int32_t>;
using Floats = PlanVector<float>;

struct PlanLists {
  Ints indptr, indices, items, heavy;  // as relational::Lists
  int64_t num_partials = 0;
};

struct PlanTiles {
  Ints nodes, weight_of;
  PlanLists far;
  Ints far_edges;
  Ints weight_tiles, chunks, chunk_indptr;
  int64_t num_direct = 0;  // tiles whose near node is the source
};

// Which pairs become compact rows.
enum class Compaction : int64_t {
  kNone = 0,    // none: a slot per edge
  kSource = 1,  // unique (source, relation)
  kMin = 2,     // per relation the smaller of unique (source, relation), (destination, relation)
};

struct PlanInput {
  const int32_t* src = nullptr;    // [num_edges], in range
  const int32_t* dst = nullptr;    // [num_edges], in range
  const int32_t* etype = nullptr;  // [num_edges], in range
  const int32_t* ntype = nullptr;  // [num_nodes] or null
  int64_t num_edges = 0;
  int64_t num_nodes = 0;
  int64_t num_relations = 0;
  int64_t num_types = 0;
  Compaction compaction = Compaction::kMin;
  bool attention = true;
  // With room for so many edges (-1: for no more than there are), the size of every array
  // depends on this and the other counts alone, not on the edges. See plan_sizes.h.
  int64_t pad_edges = -1;
};

struct PlanSums {
  PlanTiles tiles;
  PlanLists into, outof;
  Floats far_scale, into_scale, outof_scale;
};

struct PlanAttention {
  PlanTiles src_tiles, dst_tiles;
  Ints src_slots, dst_slots;
  Ints far_dst_slots;
  PlanLists src_rows, dst_rows;
  Ints pair_relation, pair_type;
  // These tiles are those of the sums, where they are, and empty here.
  bool shares_src_tiles = false;
  bool shares_dst_tiles = false;
};

struct Plan {
  Ints edge_ids;
  PlanLists incoming, outgoing;
  Ints outgoing_edges;
  // Per relation: edges, unique (source, relation) and unique (destination, relation).
  Ints relation_edges, relation_sources, relation_destinations;
  PlanSums sums;
  PlanAttention attention;  // empty unless asked for
  PlanTiles node_tiles;     // empty without ntype
};

// How often build_plan calls on_step.
inline constexpr int64_t kPlanSteps = 7;

// Calls on_step(name of what comes next) between the stages; a false answer stops with an error.
Status build_plan(const Executor& executor, const PlanInput& input,
                  const std::function<bool(const std::string&)>& on_step, Plan* plan);

}  // namespace jaxdirect::relational
