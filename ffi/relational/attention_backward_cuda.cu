// Gradients of attention, slot by slot, from the saved log-sum-exp.
//
// [num_slots, width], [num_queries, query_width], [num_nodes, columns]
//   -> rows' gradient [num_slots, width], score gradient [num_edges, heads]
//
// `fill_stats` notes what every edge of a node needs: its log-sum-exp and <cotangent, out>.
// With a = exp(score - log-sum-exp): d value += a * cotangent; d score = a (<cotangent, value> -
// <cotangent, out>). A group of kLanes lanes takes an item of slots; it keeps the slot's row and
// its gradient in registers while the edges' cotangents (and queries, for dot) stream by, kAhead
// in flight. A slot has at most a piece of edges, so no row is heavy. No atomics.
//
// Bytes: a row of cotangent (and of queries) and the statistics per edge; rows and their
// gradient once; the score gradient once.

#include "relational/attention.cuh"
#include "relational/attention.h"
#include "relational/stream.cuh"
#include "relational/vector.cuh"
#include "relational/work.cuh"

namespace jaxdirect::relational {
namespace {

// What an edge brings, of its node.
template <typename T, Score kScore, int kChunks>
struct Edge {
  Raw<T, kVector<T>> cotangent[kChunks];
  Raw<T, kVector<T>> query[kScore == Score::kDot ? kChunks : 1];
  T query_part;
  float2 stats;
};

// More warps beat more loads a warp, but for the short rows of an additive score in 16 bits.
template <typename T, Score kScore>
inline constexpr bool kFewWarps = sizeof(T) == 2 && kScore == Score::kAdditive;

template <typename T, Score kScore, int kLanes, int kChunks>
__global__ void __launch_bounds__(kWorkThreads, kChunks > 1            ? 1
                                                : kFewWarps<T, kScore> ? 3
                                                                       : 4)
    differentiate_items(const AttentionBackwardArgs args, const int head_lanes) {
  constexpr int kCount = kVector<T>;
  constexpr bool kDot = kScore == Score::kDot;
  constexpr int kAhead = kChunks > 1 || kDot ? 1 : kFewWarps<T, kScore> ? 3 : 2;
  const int64_t thread = int64_t{blockIdx.x} * kWorkThreads + threadIdx.x;
  const unsigned mask = group_mask<kLanes>();
  const int lane = threadIdx.x % kLanes;
  const Work work = read_work(args.lists, thread / kLanes);
  if (work.rows == 0 || work.partial >= 0) return;
  const Columns<T, kLanes, kChunks> columns(args.columns, lane);
  const int64_t head = columns.head(args.heads);
  const bool leads = columns.leads_head(lane, head_lanes);
  const T* queries = static_cast<const T*>(args.queries);
  const T* cotangents = static_cast<const T*>(args.cotangent);

  Raw<T, kCount> value[kChunks];
  Raw<T, kCount> key[kDot ? kChunks : 1];
  float value_grad[kChunks][kCount] = {};
  float key_grad[kDot ? kChunks : 1][kCount] = {};
  float part = 0;
  float part_grad = 0;
  Rows slots(args.lists, work);
  const auto load_slot = [&] {
    const T* from = static_cast<const T*>(args.rows) + slots.row * args.width;
    if constexpr (kDot) {
      columns.load(key, from);
      columns.load(value, from + args.columns);
    } else {
      columns.load(value, from);
      part = widen(__ldg(from + args.columns + head));
    }
  };
  const auto finish_slot = [&] {
    T* to = static_cast<T*>(args.rows_grad) + slots.row * args.width;
    if constexpr (kDot) {
      columns.store_scaled(to, key_grad, 1.0f);
      columns.store_scaled(to + args.columns, value_grad, 1.0f);
      columns.clear(key_grad);
    } else {
      columns.store_scaled(to, value_grad, 1.0f);
      if (leads) to[args.columns + head] = narrow<T>(part_grad);
    }
    // Columns behind the last one that means something.
    const int64_t used = kDot ? 2 * args.columns : args.columns + args.heads;
    if (blockIdx.y == 0) {
      for (int64_t i = used + lane; i < args.width; i += kLanes) to[i] = narrow<T>(0.0f);
    }
    columns.clear(value_grad);
    part_grad = 0;
    const int begin = slots.end;
    if (slots.advance(args.lists, work) && slots.end > begin) load_slot();
  };
  if (slots.end > work.begin) load_slot();

  stream<Edge<T, kScore, kChunks>, kLanes, kAhead, 2>(
      mask, work.begin, work.end,
      [&](int entry) {
        Entry fetched;
        fetched.index = __ldg(args.lists.indices + entry);
        fetched.first = __ldg(args.edges + entry);
        const bool known = fetched.index < args.num_nodes && fetched.first >= 0 &&
                           fetched.first < args.lists.num_entries;
        if (!known) fetched.index = -1;
        if constexpr (!kDot) {
          fetched.second = __ldg(args.query_rows + entry);
          if (fetched.second < 0 || fetched.second >= args.num_queries) fetched.index = -1;
        }
        return fetched;
      },
      [&](Edge<T, kScore, kChunks>* edge, const Entry& entry) {
        columns.load(edge->cotangent, cotangents + entry.index * args.columns);
        if constexpr (kDot) {
          columns.load(edge->query, queries + entry.index * args.query_width);
        } else {
          edge->query_part = __ldg(queries + entry.second * args.query_width + head);
        }
        const auto* stats = reinterpret_cast<const float2*>(args.stats);
        edge->stats = __ldg(stats + int64_t{entry.index} * args.heads + head);
      },
      [&](int entry) {
        while (entry >= slots.end && slots.left > 1) finish_slot();
      },
      [&](const Edge<T, kScore, kChunks>& edge, const Entry& entry) {
        float score;
        float slope = 1.0f;
        if constexpr (kDot) {
          score = sum_lanes(mask, columns.dot(edge.query, key), head_lanes);
        } else {
          score = part + widen(edge.query_part);
          slope = score > 0 ? 1.0f : args.negative_slope;
          score *= slope;
        }
        const float weight = __expf(score - edge.stats.x);
        const float product = sum_lanes(mask, columns.dot(edge.cotangent, value), head_lanes);
        const float score_grad = weight * (product - edge.stats.y) * slope;
        columns.add(value_grad, weight, edge.cotangent);
        if constexpr (kDot) {
          columns.add(key_grad, score_grad, edge.query);
        } else {
          part_grad += score_grad;
        }
        if (leads) args.score_grad[int64_t{entry.first} * args.heads + head] = score_grad;
      });
  while (slots.left > 0) finish_slot();
}

// A group of lanes takes a node; stats are (log-sum-exp, <cotangent, out>), head by head.
template <typename T, int kLanes, int kChunks>
__global__ void __launch_bounds__(kWorkThreads)
    fill_stats(const AttentionBackwardArgs args, const int head_lanes) {
  const int64_t node = (int64_t{blockIdx.x} * kWorkThreads + threadIdx.x) / kLanes;
  const int lane = threadIdx.x % kLanes;
  if (node >= args.num_nodes) return;
  const Columns<T, kLanes, kChunks> columns(args.columns, lane);
  Raw<T, kVector<T>> cotangent[kChunks];
  Raw<T, kVector<T>> out[kChunks];
  columns.load(cotangent, static_cast<const T*>(args.cotangent) + node * args.columns);
  columns.load(out, static_cast<const T*>(args.out) + node * args.columns);
  const float product = sum_lanes(group_mask<kLanes>(), columns.dot(cotangent, out), head_lanes);
  if (!columns.leads_head(lane, head_lanes)) return;
  const int64_t at = node * args.heads + columns.head(args.heads);
  reinterpret_cast<float2*>(args.stats)[at] = {args.log_sum_exp[at], product};
}

template <typename T, Score kScore, int kLanes, int kChunks>
Status launch_items(cudaStream_t stream, const AttentionBackwardArgs& args,
                    const HeadLayout& layout) {
  const int64_t column_blocks = layout.column_blocks(kLanes * kChunks);
  dim3 grid;
  JAXDIRECT_RETURN_IF_ERROR(
      work_grid("attention gradient", args.num_nodes, kLanes, column_blocks, &grid));
  fill_stats<T, kLanes, kChunks>
      <<<grid, kWorkThreads, 0, stream>>>(args, layout.head_lanes(kLanes));
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "attention gradient");
  JAXDIRECT_RETURN_IF_ERROR(
      work_grid("attention gradient", args.lists.num_items, kLanes, column_blocks, &grid));
  differentiate_items<T, kScore, kLanes, kChunks>
      <<<grid, kWorkThreads, 0, stream>>>(args, layout.head_lanes(kLanes));
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "attention gradient");
  return Status::ok();
}

template <typename T, Score kScore>
Status run(cudaStream_t stream, const AttentionBackwardArgs& args) {
  HeadLayout layout;
  JAXDIRECT_RETURN_IF_ERROR(
      head_layout("attention gradient", args.columns, args.heads, kVector<T>, &layout));
  if (args.width % kVector<T> != 0 || (kScore == Score::kDot && args.query_width % kVector<T>) ||
      !aligned16(args.rows) || !aligned16(args.queries) || !aligned16(args.cotangent) ||
      !aligned16(args.out) || !aligned16(args.rows_grad) || !aligned16(args.stats)) {
    return Status::error("attention gradient: rows and queries must be aligned to 16 bytes");
  }
  if (layout.lanes <= 8) return launch_items<T, kScore, 8, 1>(stream, args, layout);
  if (layout.lanes <= 16) return launch_items<T, kScore, 16, 1>(stream, args, layout);
  if (layout.lanes_per_head <= 32) return launch_items<T, kScore, 32, 1>(stream, args, layout);
  if (layout.lanes_per_head <= 64) return launch_items<T, kScore, 32, 2>(stream, args, layout);
  return launch_items<T, kScore, 32, 4>(stream, args, layout);
}

template <typename T>
Status run_score(cudaStream_t stream, const AttentionBackwardArgs& args) {
  return args.score == Score::kDot ? run<T, Score::kDot>(stream, args)
                                   : run<T, Score::kAdditive>(stream, args);
}

}  // namespace

Status attention_backward(cudaStream_t stream, const AttentionBackwardArgs& args) {
  if (args.num_slots == 0 || args.columns == 0) return Status::ok();
  if (args.num_nodes == 0 || args.num_queries == 0) {
    JAXDIRECT_RETURN_IF_CUDA_ERROR(
        cudaMemsetAsync(args.rows_grad, 0, args.num_slots * args.width * size_of(args.type),
                        stream),
        "attention gradient");
    return Status::ok();
  }
  if (args.lists.num_items == 0) return Status::error("attention gradient: no items");
  switch (args.type) {
    case FloatType::kF16:
      return run_score<__half>(stream, args);
    case FloatType::kBF16:
      return run_score<__nv_bfloat16>(stream, args);
    case FloatType::kF32:
      return run_score<float>(stream, args);
    case FloatType::kF64:
      break;
  }
  return Status::error(
      "attention gradient: float64 has no CUDA kernel; use implementation='reference'");
}

}  // namespace jaxdirect::relational
