#pragma once

// Typed linear map over compact rows: out[s] = row(s) weight[weight_of[s / 64]],
// the gather-GEMM of Hector (arXiv:2301.06284, section 4.3) with an optional scatter.
//
// [.., in_dim] -> [64 * num_tiles, out_dim], or [num_nodes, out_dim] when it scatters.

#include "common/float_type.h"
#include "common/status.h"
#include "relational/lists.h"

namespace jaxdirect::relational {

// As jax.lax.Precision: how float32 products are rounded on tensor cores.
enum class Precision : int64_t { kDefault = 0, kHighest = 1 };

struct LinearArgs {
  SlotRows x[2];  // [.., in_dim]: of tiles before num_first, and of the others
  int64_t num_first = 0;
  int64_t in_dim = 0;
  int64_t out_dim = 0;
  const void* weight =
      nullptr;  // [num_weights, in_dim, out_dim]; transposed: [.., out_dim, in_dim]
  bool transposed = false;
  int64_t num_weights = 0;
  const int32_t* weight_of = nullptr;  // [num_tiles]; out of range: the tile's rows are zero
  int64_t num_tiles = 0;
  const int32_t* nodes = nullptr;  // [64 * num_tiles]; out of range: the row is zero
  bool scatter = false;            // out[nodes[s]] instead of out[s]; a node in at most one slot
  bool fill = false;               // zero the rows of out that no slot names, if it scatters
  int64_t num_out = 0;             // rows of out
  FloatType type = FloatType::kF32;
  Precision precision = Precision::kDefault;
  void* out = nullptr;
};

Status linear(Context context, const LinearArgs& args);

}  // namespace jaxdirect::relational
