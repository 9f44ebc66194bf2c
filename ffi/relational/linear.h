#pragma once

// Typed linear map over compact rows: out[s] = row(s) weight[weight_of[s / 64]] (+ bias),
// the gather-GEMM of Hector (arXiv:2301.06284, section 4.3) with an optional scatter.
//
// row(s) is x[nodes[s]], the scaled sum of x over the slot's far list, or x[s] itself.
// [num_x, in_dim] -> [64 * num_tiles, out_dim], or [num_nodes, out_dim] when it scatters.

#include "common/float_type.h"
#include "common/status.h"
#include "relational/lists.h"

namespace jaxdirect::relational {

// Where a slot's row comes from.
enum class RowSource : int64_t { kNode = 0, kList = 1, kOwn = 2 };

// As jax.lax.Precision: how float32 products are rounded on tensor cores.
enum class Precision : int64_t { kDefault = 0, kHighest = 1 };

struct LinearArgs {
  const void* x = nullptr;  // [num_x, in_dim]
  int64_t num_x = 0;
  int64_t in_dim = 0;
  int64_t out_dim = 0;
  const void* weight =
      nullptr;  // [num_weights, in_dim, out_dim]; transposed: [.., out_dim, in_dim]
  bool transposed = false;
  int64_t num_weights = 0;
  const void* bias = nullptr;          // [num_weights, out_dim] or null
  const int32_t* weight_of = nullptr;  // [num_tiles]; out of range: the tile's rows are zero
  int64_t num_tiles = 0;
  const int32_t* nodes = nullptr;    // [64 * num_tiles]; out of range: the row is zero
  Lists far;                         // num_rows = 64 * num_tiles; only indptr and indices are read
  const float* far_scale = nullptr;  // [far.num_entries] or null: 1
  int64_t num_first = 0;             // tiles before it read from `first`, the others from `second`
  RowSource first = RowSource::kNode;
  RowSource second = RowSource::kList;
  bool scatter = false;  // out[nodes[s]] instead of out[s]; every node in at most one slot
  int64_t num_out = 0;   // rows of out
  FloatType type = FloatType::kF32;
  Precision precision = Precision::kDefault;
  void* out = nullptr;
  // The summed rows of the tiles that read lists, for the backward: [64 * tiles, in_dim] or null.
  void* summed = nullptr;
};

Status linear(Context context, const LinearArgs& args);

}  // namespace jaxdirect::relational
