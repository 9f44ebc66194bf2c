#include <algorithm>

#include "relational/lists.h"
#include "relational/plan_links.h"
#include "relational/plan_lists.h"

namespace jaxdirect::relational {
namespace {

constexpr int64_t kRowGrain = 1 << 12;

// counts -> their running sum, in [1, n].
void accumulate(Ints* indptr) {
  (*indptr)[0] = 0;
  for (std::size_t i = 1; i < indptr->size(); ++i) (*indptr)[i] += (*indptr)[i - 1];
}

}  // namespace

void link_slots(const Executor& executor, const SlotLinks& rows, int64_t room, PlanLists* lists,
                Floats* scale) {
  const Ints& indptr = *rows.indptr;
  const Ints& slots = *rows.slots;
  const auto num_rows = static_cast<int64_t>(indptr.size()) - 1;
  const auto is_whole = [&](int64_t slot) {
    return slot >= rows.first_whole && slot < rows.end_whole;
  };
  const auto is_repeated = [&](int64_t row, int64_t i) {
    return i > indptr[row] && slots[i] == slots[i - 1] && is_whole(slots[i]);
  };
  lists->indptr.resize(num_rows + 1);
  parallel_for(executor, num_rows, kRowGrain, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      int32_t count = 0;
      for (int64_t i = indptr[row]; i < indptr[row + 1]; ++i) count += !is_repeated(row, i);
      lists->indptr[row + 1] = count;
    }
  });
  accumulate(&lists->indptr);
  const int64_t used = lists->indptr.back();
  pad(&lists->indices, used, room < 0 ? used : room, -1);
  pad(scale, used, room < 0 ? used : room, 0.0F);
  parallel_for(executor, num_rows, kRowGrain, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      int64_t entry = lists->indptr[row];
      for (int64_t i = indptr[row]; i < indptr[row + 1]; ++i) {
        if (is_repeated(row, i)) continue;
        lists->indices[entry] = slots[i];
        const int64_t edge = rows.edges ? (*rows.edges)[i] : i;
        (*scale)[entry++] = is_whole(slots[i]) ? 1.0F : (*rows.edge_scale)[edge];
      }
    }
  });
}

void list_slots(const Executor& executor, const Ints& nodes, int64_t num_nodes, int64_t room,
                Records* records, Records* scratch, PlanLists* lists) {
  // Empty slots are the last ones of their tiles.
  const auto num_tiles = static_cast<int64_t>(nodes.size()) / kTile;
  Ints first(num_tiles + 1);
  parallel_for(executor, num_tiles, kRowGrain / kTile, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      const auto slots = nodes.begin() + tile * kTile;
      first[tile + 1] = std::find(slots, slots + kTile, -1) - slots;
    }
  });
  accumulate(&first);
  records->resize(first.back());
  parallel_for(executor, num_tiles, kRowGrain / kTile, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t count = first[tile + 1] - first[tile];
      for (int64_t k = 0; k < count; ++k) {
        const int64_t slot = tile * kTile + k;
        (*records)[first[tile] + k] = {static_cast<uint32_t>(nodes[slot]), 0, 0,
                                       static_cast<uint32_t>(slot)};
      }
    }
  });
  const auto node = [](const Record& record) { return record.src; };
  sort_records(executor, records, scratch, bits_for(num_nodes), node);
  fill_indptr(executor, *records, num_nodes, node, &lists->indptr);
  const int64_t used = first.back();
  pad(&lists->indices, used, room < 0 ? used : room, -1);
  parallel_for(executor, used, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      lists->indices[i] = static_cast<int32_t>((*records)[i].edge);
    }
  });
}

}  // namespace jaxdirect::relational
