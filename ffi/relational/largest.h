#pragma once

// out[row] = the largest weight * values[index] over the row's entries, column by column, and the
// entry that it came from; with the two halves of its gradient, which follow those entries.

#include "common/float_type.h"
#include "common/status.h"
#include "relational/lists.h"

namespace jaxdirect::relational {

// A factor for each entry and run of columns.
struct EntryWeights {
  const float* data = nullptr;    // [num_weights, heads], or null: 1
  const int32_t* rows = nullptr;  // [num_entries]: the entry's row of data; null: its own
  int64_t num_weights = 0;
  int64_t heads = 1;
};

struct LargestArgs {
  const void* values = nullptr;  // [num_values, columns]
  int64_t num_values = 0;
  int64_t columns = 0;
  Lists lists;
  EntryWeights weights;  // an entry without a row of them counts nothing
  FloatType type = FloatType::kF32;
  void* out = nullptr;         // [num_rows, columns]; 0 where no entry counts
  int32_t* winners = nullptr;  // [num_rows, columns]: the first such entry, -1 where none counts
  float* partials = nullptr;   // CUDA: [num_partials, columns]
  int32_t* partial_winners = nullptr;
};

// The first of equal numbers wins; NaN is larger than any.
Status largest(Context context, const LargestArgs& args);

// out[row, c] = sum over the row's entries e of weight * values[index, c], where
// winners[index, c] == edges[e]: the gradient of `largest` with respect to its values, over the
// transposed lists.
struct PickedSumArgs {
  const void* values = nullptr;      // [num_values, columns]
  const int32_t* winners = nullptr;  // [num_values, columns]
  int64_t num_values = 0;
  int64_t columns = 0;
  Lists lists;
  const int32_t* edges = nullptr;  // [num_entries]
  EntryWeights weights;
  FloatType type = FloatType::kF32;
  void* out = nullptr;        // [num_rows, columns]
  float* partials = nullptr;  // CUDA: [num_partials, columns]
};

Status picked_sum(Context context, const PickedSumArgs& args);

// out[to[e], h] = sum over the columns c of head h, where winners[row of e, c] == e, of
// a[row of e, c] * b[index of e, c]: the gradient of `largest` with respect to its weights.
struct PickedDotArgs {
  const void* a = nullptr;           // [num_rows, columns]
  const int32_t* winners = nullptr;  // [num_rows, columns]
  const void* b = nullptr;           // [num_b, columns]
  int64_t num_b = 0;
  int64_t columns = 0;
  Lists lists;
  const int32_t* to = nullptr;  // [num_entries], a permutation; null: the entry itself
  int64_t heads = 1;
  FloatType type = FloatType::kF32;
  float* out = nullptr;  // [num_entries, heads]
};

Status picked_dot(Context context, const PickedDotArgs& args);

}  // namespace jaxdirect::relational
