#include <limits>

#include "relational/lists.h"
#include "relational/plan_lists.h"
#include "relational/plan_sizes.h"

namespace jaxdirect::relational {

Status divide(bool padded, PlanLists* lists) {
  const Ints& indptr = lists->indptr;
  Ints& items = lists->items;
  const auto num_rows = static_cast<int64_t>(indptr.size()) - 1;
  const auto num_entries = static_cast<int64_t>(lists->indices.size());
  const int64_t piece = piece_of(num_entries);
  const int64_t item_rows = item_rows_of(num_entries);
  int64_t partials = 0;
  items.reserve(4 * (padded ? most_items(num_rows, num_entries) : num_rows / item_rows + 1));
  for (int64_t row = 0; row < num_rows;) {
    const int32_t begin = indptr[row];
    if (indptr[row + 1] - begin > piece) {
      const int64_t first = partials;
      for (int64_t at = begin; at < indptr[row + 1]; at += piece) {
        const int64_t end = std::min<int64_t>(at + piece, indptr[row + 1]);
        for (const int64_t part : {row, at, end, ~partials++}) items.push_back(part);
      }
      for (const int64_t part : {row, first, partials - first}) lists->heavy.push_back(part);
      ++row;
      continue;
    }
    int64_t end = row + 1;
    const int64_t last = std::min(num_rows, row + item_rows);
    while (end < last && indptr[end + 1] - begin <= piece) ++end;
    for (const int64_t part : {row, int64_t{begin}, int64_t{indptr[end]}, end - row}) {
      items.push_back(part);
    }
    row = end;
  }
  lists->num_partials = partials;
  const auto num_items = static_cast<int64_t>(items.size()) / 4;
  if (num_items > std::numeric_limits<int32_t>::max()) {
    return Status::error("RelGraph: the plan needs ", num_items,
                         " work items, more than int32 counts; split the graph");
  }
  if (!padded) return Status::ok();
  if (num_items > most_items(num_rows, num_entries) || partials > most_partials(num_entries)) {
    return Status::error("RelGraph: more work items than a padded plan has room for");
  }
  pad(&items, items.size(), 4 * most_items(num_rows, num_entries), 0);
  const auto heavy = static_cast<int64_t>(lists->heavy.size());
  pad(&lists->heavy, heavy, 3 * most_heavy(num_entries), 0);
  for (int64_t at = heavy; at < static_cast<int64_t>(lists->heavy.size()); at += 3) {
    lists->heavy[at] = -1;
  }
  lists->num_partials = most_partials(num_entries);
  return Status::ok();
}

}  // namespace jaxdirect::relational
