#pragma once

// out[row] = sum over the row's entries of weight * values[index], the aggregation of every
// layer and the transpose of every gather. With heads, column c is scaled by the weight of
// head c / (columns / heads).
//
// [num_values, width] -> [num_out, columns], from columns first_column and row first_row on.

#include "common/float_type.h"
#include "common/status.h"
#include "relational/lists.h"

namespace jaxdirect::relational {

struct SumArgs {
  const void* values = nullptr;  // [num_values, width]
  int64_t num_values = 0;
  int64_t width = 0;
  int64_t first_column = 0;
  int64_t columns = 0;
  Lists lists;
  const float* weights = nullptr;        // [num_weights, heads], or null: 1
  const int32_t* weight_rows = nullptr;  // [num_entries]: the entry's row of weights; null: its own
  int64_t num_weights = 0;
  int64_t heads = 1;
  FloatType type = FloatType::kF32;
  int64_t first_row = 0;      // of the lists
  int64_t num_out = 0;        // rows from there on
  void* out = nullptr;        // [num_out, columns]; rows without entries are zero
  float* partials = nullptr;  // CUDA: [num_partials, columns]
};

Status sum(Context context, const SumArgs& args);

// out[weight_rows[e], h] = <a[row of e], b[index of e]> over the columns of head h: the gradient
// of `sum` with respect to its weights. Entries whose index is out of range give zero.
struct DotArgs {
  const void* a = nullptr;  // [num_rows, columns]
  const void* b = nullptr;  // [num_b, columns]
  int64_t num_b = 0;
  int64_t columns = 0;
  Lists lists;
  const int32_t* weight_rows = nullptr;  // [num_entries], a permutation; null: the entry itself
  int64_t heads = 1;
  FloatType type = FloatType::kF32;
  float* out = nullptr;  // [num_entries, heads]
};

Status dot(Context context, const DotArgs& args);

}  // namespace jaxdirect::relational
