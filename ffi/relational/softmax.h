#pragma once

// Softmax of per-edge scores over the edges of each row, head by head: [num_edges, heads] to the
// same. The maximum is subtracted.

#include "common/float_type.h"
#include "common/status.h"
#include "relational/lists.h"

namespace jaxdirect::relational {

struct SoftmaxArgs {
  const void* logits = nullptr;    // [num_edges, heads]
  const int32_t* edges = nullptr;  // [num_entries]: the edge of an entry, each edge once
  Lists lists;                     // indices are not read: all entries count
  int64_t heads = 1;
  FloatType type = FloatType::kF32;
  void* out = nullptr;        // [num_edges, heads]
  float* partials = nullptr;  // CUDA: [num_partials, 2 * heads]
};

Status softmax(Context context, const SoftmaxArgs& args);

// grad = out * (cotangent - sum over the row of out * cotangent)
struct SoftmaxBackwardArgs {
  const void* out = nullptr;        // [num_edges, heads], of the forward
  const void* cotangent = nullptr;  // [num_edges, heads]
  const int32_t* edges = nullptr;
  Lists lists;
  int64_t heads = 1;
  FloatType type = FloatType::kF32;
  void* grad = nullptr;       // [num_edges, heads]
  float* partials = nullptr;  // CUDA: [num_partials, heads]
};

Status softmax_backward(Context context, const SoftmaxBackwardArgs& args);

}  // namespace jaxdirect::relational
