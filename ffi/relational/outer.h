#pragma once

// Weight gradient of `linear`: out[w] = sum over the slots s of w's tiles of a(s)^T b(s).
//
// A chunk is a run of one weight's tiles, multiplied up by one thread block; the chunks of a
// weight are added in order. No atomics.

#include "common/float_type.h"
#include "common/status.h"
#include "relational/linear.h"
#include "relational/lists.h"

namespace jaxdirect::relational {

struct OuterArgs {
  SlotRows a[2];  // [.., a_dim]: of tiles before num_first, and of the others
  SlotRows b[2];  // [.., b_dim]
  int64_t a_dim = 0;
  int64_t b_dim = 0;
  int64_t num_first = 0;
  int64_t num_tiles = 0;
  const int32_t* nodes = nullptr;         // [64 * num_tiles]; out of range: the row is zero
  const int32_t* weight_tiles = nullptr;  // [num_tiles]: tiles sorted by weight
  const int32_t* chunks = nullptr;        // [num_chunks, 3]: weight, begin, end in weight_tiles
  int64_t num_chunks = 0;
  const int32_t* chunk_indptr = nullptr;  // [num_weights + 1]
  int64_t num_weights = 0;
  FloatType type = FloatType::kF32;
  Precision precision = Precision::kDefault;
  void* out = nullptr;        // [num_weights, a_dim, b_dim]
  float* partials = nullptr;  // CUDA: [num_chunks, a_dim, b_dim]
};

Status outer(Context context, const OuterArgs& args);

}  // namespace jaxdirect::relational
