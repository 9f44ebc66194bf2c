#pragma once

// Attention over all in-edges of a node: out[i] = sum over in-edges e of softmax(score)_e value_e,
// in one pass with a running maximum (arXiv:1805.02867), and its backward, which recomputes the
// weights from the saved log-sum-exp (arXiv:2205.14135, section 3.1).
//
// Edge e reads row slots[e] of `rows`. Score of head h:
//   additive (RGAT): leaky_relu(part(slot)_h + queries[query_rows[e]]_h);
//                    a row is [values: columns | parts: heads | padding]
//   dot (HGT):       <queries[i], key(slot)> over the columns of head h;
//                    a row is [keys: columns | values: columns]

#include "common/float_type.h"
#include "common/status.h"
#include "relational/lists.h"

namespace jaxdirect::relational {

enum class Score : int64_t { kAdditive = 0, kDot = 1 };

struct AttentionArgs {
  Score score = Score::kAdditive;
  int64_t heads = 1;
  int64_t columns = 0;         // heads * values per head
  const void* rows = nullptr;  // [num_slots, width]
  int64_t num_slots = 0;
  int64_t width = 0;
  const void* queries = nullptr;  // [num_queries, query_width]: heads or columns of it are read
  int64_t num_queries = 0;
  int64_t query_width = 0;
  const int32_t* query_rows = nullptr;  // [num_entries] (additive); null (dot): the node
  Lists lists;                          // rows: nodes; indices: slots
  float negative_slope = 0;             // of the leaky rectifier
  FloatType type = FloatType::kF32;
  void* out = nullptr;           // [num_nodes, columns]; zero where no edge comes in
  float* log_sum_exp = nullptr;  // [num_nodes, heads]; zero where no edge comes in
  float* partials = nullptr;     // CUDA: [num_partials, partial_width]
};

// Sums, maxima and sums of weights of a piece of a heavy row, in steps of 16 bytes.
inline int64_t partial_width(int64_t columns, int64_t heads) {
  return columns + (2 * heads + 3) / 4 * 4;
}

Status attention(Context context, const AttentionArgs& args);

// Works slot by slot, so that each edge costs one row of `cotangent` (and of queries, for dot).
struct AttentionBackwardArgs {
  Score score = Score::kAdditive;
  int64_t heads = 1;
  int64_t columns = 0;
  const void* rows = nullptr;  // [num_slots, width]
  int64_t num_slots = 0;
  int64_t width = 0;
  const void* queries = nullptr;  // [num_queries, query_width]
  int64_t num_queries = 0;
  int64_t query_width = 0;
  const int32_t* query_rows = nullptr;  // [num_entries] (additive); null (dot): the node
  const void* cotangent = nullptr;      // [num_nodes, columns]
  int64_t num_nodes = 0;
  const void* out = nullptr;           // [num_nodes, columns], the forward's result
  const float* log_sum_exp = nullptr;  // [num_nodes, heads], and so this
  Lists lists;                     // rows: slots; indices: nodes; entries of a row are its edges
  const int32_t* edges = nullptr;  // [num_entries]: the edge of an entry, each edge once
  float negative_slope = 0;
  FloatType type = FloatType::kF32;
  void* rows_grad = nullptr;    // [num_slots, width]; padding columns are zero
  float* score_grad = nullptr;  // [num_entries, heads] by edge: gradient of the sum before the
                                // rectifier (additive), or of the score (dot); of an edge that no
                                // entry names it is not set
  float* stats = nullptr;       // [num_nodes, 2 * heads], scratch: the log-sum-exp and
                                // <cotangent, out> of a node's heads
};

Status attention_backward(Context context, const AttentionBackwardArgs& args);

}  // namespace jaxdirect::relational
