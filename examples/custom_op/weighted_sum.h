#pragma once

// out[i] = sum over j of weights[i, j] * table[ids[i, j]]; ids that are no row add nothing.

#include <cstdint>
#include <utility>

#include "jaxdirect/common/handler.h"

namespace example {

struct WeightedSumArgs {
  const float* table = nullptr;  // [num_rows, dim]
  int64_t num_rows = 0;
  int64_t dim = 0;
  const int32_t* ids = nullptr;    // [batch, picks]
  const float* weights = nullptr;  // [batch, picks]
  int64_t batch = 0;
  int64_t picks = 0;
  float* out = nullptr;  // [batch, dim]
};

// What a launch runs on: XLA's CUDA stream, or XLA's CPU thread pool.
using Context = decltype(jaxdirect::to_context(std::declval<jaxdirect::NativeContext>()));

jaxdirect::Status weighted_sum(Context context, const WeightedSumArgs& args);

}  // namespace example
