#pragma once

// Lists of a plan: their row pointers and their division into work items.

#include <algorithm>
#include <cstdint>

#include "common/parallel.h"
#include "common/status.h"
#include "relational/plan.h"
#include "relational/plan_sort.h"

namespace jaxdirect::relational {

inline constexpr int64_t kGrain = 1 << 14;  // records or rows that a thread claims at a time

// Makes room for `room` numbers, of which those from `used` on are `value`.
template <typename T>
void pad(PlanVector<T>* numbers, int64_t used, int64_t room, T value) {
  numbers->resize(room);
  std::fill(numbers->begin() + used, numbers->end(), value);
}

// indptr of `rows` rows whose records are sorted by row(record).
template <typename Row>
void fill_indptr(const Executor& executor, const Records& records, int64_t rows, const Row& row,
                 Ints* indptr) {
  const auto count = static_cast<int64_t>(records.size());
  indptr->resize(rows + 1);
  parallel_for(executor, count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i == 0 ? 0 : int64_t{row(records[i - 1])} + 1;
      for (int64_t v = first; v <= int64_t{row(records[i])}; ++v) (*indptr)[v] = i;
    }
  });
  const int64_t rest = count == 0 ? 0 : int64_t{row(records[count - 1])} + 1;
  std::fill(indptr->begin() + rest, indptr->end(), static_cast<int32_t>(count));
}

// Cuts the rows of lists->indptr into items: pieces of heavy rows, groups of others. With `padded`
// the numbers of items, heavy rows and partials follow from those of rows and entries.
Status divide(bool padded, PlanLists* lists);

}  // namespace jaxdirect::relational
