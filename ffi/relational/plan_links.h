#pragma once

// Lists of a plan that lead from nodes to slots.

#include <cstdint>

#include "common/parallel.h"
#include "relational/plan.h"
#include "relational/plan_sort.h"

namespace jaxdirect::relational {

// Rows of edges, each with its slot, from which slots become the entries of lists.
struct SlotLinks {
  const Ints* indptr = nullptr;  // [num_rows + 1] over edges
  const Ints* slots = nullptr;   // [num_edges], ascending in each row within a relation
  const Ints* edges = nullptr;   // [num_edges] into edge_scale, or null: the edge itself
  const Floats* edge_scale = nullptr;
  // Slots in [first_whole, end_whole) have one entry in a row, of scale 1; others one per edge.
  int64_t first_whole = 0;
  int64_t end_whole = 0;
};

// `room`: the number of entries to make room for, or -1: for those that there are.
void link_slots(const Executor& executor, const SlotLinks& rows, int64_t room, PlanLists* lists,
                Floats* scale);

// Rows are nodes, entries the slots of `nodes` ([num_slots], -1: none) near them. The records are
// overwritten.
void list_slots(const Executor& executor, const Ints& nodes, int64_t num_nodes, int64_t room,
                Records* records, Records* scratch, PlanLists* lists);

}  // namespace jaxdirect::relational
