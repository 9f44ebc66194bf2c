// out[i] = sum over in-edges e of softmax(score)_e value_e, all heads, in one pass.
//
// [num_slots, width], [num_queries, query_width] -> [num_nodes, columns], [num_nodes, heads]
//
// A group of kLanes lanes takes a work item, lanes along the columns, 16 bytes each (times
// kChunks where one head is wider than the group). Every lane keeps the running maximum and sum
// of its head, and kAhead rows in flight; a batch of rows costs one rescaling. For the dot score
// the lanes of a head add their products by shuffles. Pieces of heavy rows leave (sums, maximum,
// sum of weights), which `join_partials` joins in order. No atomics.
//
// Bytes: one row per edge (values, and parts or keys), its indices, queries and output once.

#include "relational/attention.cuh"
#include "relational/attention.h"
#include "relational/join.cuh"
#include "relational/stream.cuh"
#include "relational/vector.cuh"
#include "relational/work.cuh"

namespace jaxdirect::relational {
namespace {

// What an edge brings: its value, and its score (additive) or its key (dot).
template <typename T, Score kScore, int kChunks>
struct Edge {
  Raw<T, kVector<T>> value[kChunks];
  Raw<T, kVector<T>> key[kScore == Score::kDot ? kChunks : 1];
  T part;  // of the slot, and of its query (additive)
  T query_part;
};

template <typename T, Score kScore, int kLanes, int kChunks>
__global__ void __launch_bounds__(kWorkThreads, kChunks > 1 ? 1 : 4)
    attend_items(const AttentionArgs args, const int head_lanes, const int64_t partial_width) {
  constexpr int kCount = kVector<T>;
  constexpr bool kDot = kScore == Score::kDot;
  constexpr int kAhead = kChunks > 1 ? 1 : 3;
  const int64_t thread = int64_t{blockIdx.x} * kWorkThreads + threadIdx.x;
  const unsigned mask = group_mask<kLanes>();
  const int lane = threadIdx.x % kLanes;
  const Work work = read_work(args.lists, thread / kLanes);
  if (work.rows == 0) return;
  const Columns<T, kLanes, kChunks> columns(args.columns, lane);
  const int64_t head = columns.head(args.heads);
  const T* rows = static_cast<const T*>(args.rows);
  const T* queries = static_cast<const T*>(args.queries);

  float sums[kChunks][kCount] = {};
  float largest = -INFINITY;
  float weight_sum = 0;
  Raw<T, kCount> query[kDot ? kChunks : 1];
  Rows nodes(args.lists, work);
  const auto load_query = [&] {
    if constexpr (kDot) columns.load(query, queries + nodes.row * args.query_width);
  };
  const auto finish_row = [&] {
    if (work.partial >= 0) {
      float* partial = args.partials + work.partial * partial_width;
      columns.store_floats(partial, sums);
      if (columns.leads_head(lane, head_lanes)) {
        partial[args.columns + head] = largest;
        partial[args.columns + args.heads + head] = weight_sum;
      }
    } else {
      const float scale = weight_sum > 0 ? 1.0f / weight_sum : weight_sum;
      columns.store_scaled(static_cast<T*>(args.out) + nodes.row * args.columns, sums, scale);
      if (columns.leads_head(lane, head_lanes)) {
        args.log_sum_exp[nodes.row * args.heads + head] = log_sum_exp(largest, weight_sum);
      }
    }
    columns.clear(sums);
    largest = -INFINITY;
    weight_sum = 0;
    if (nodes.advance(args.lists, work)) load_query();
  };
  load_query();

  stream<Edge<T, kScore, kChunks>, kLanes, kAhead, 1>(
      mask, work.begin, work.end,
      [&](int entry) {
        Entry fetched;
        fetched.index = __ldg(args.lists.indices + entry);
        if (fetched.index >= args.num_slots) fetched.index = -1;
        if constexpr (!kDot) {
          fetched.first = __ldg(args.query_rows + entry);
          if (fetched.first < 0 || fetched.first >= args.num_queries) fetched.index = -1;
        }
        return fetched;
      },
      [&](Edge<T, kScore, kChunks>* edge, const Entry& entry) {
        const T* from = rows + entry.index * args.width;
        if constexpr (kDot) {
          columns.load(edge->key, from);
          columns.load(edge->value, from + args.columns);
        } else {
          columns.load(edge->value, from);
          edge->part = __ldg(from + args.columns + head);
          edge->query_part = __ldg(queries + entry.first * args.query_width + head);
        }
      },
      [&](int entry) {
        while (entry >= nodes.end && nodes.left > 1) finish_row();
      },
      [&](const Edge<T, kScore, kChunks>& edge, const Entry&) {
        float score;
        if constexpr (kDot) {
          score = sum_lanes(mask, columns.dot(query, edge.key), head_lanes);
        } else {
          score = widen(edge.part) + widen(edge.query_part);
          if (score <= 0) score *= args.negative_slope;
        }
        if (score > largest) {
          const float shrink = exp_difference(largest, score);
          columns.scale(sums, shrink);
          weight_sum *= shrink;
          largest = score;
        }
        const float weight = exp_difference(score, largest);
        columns.add(sums, weight, edge.value);
        weight_sum += weight;
      });
  while (nodes.left > 0) finish_row();
}

template <typename T>
__global__ void __launch_bounds__(kJoinThreads)
    join_partials(const AttentionArgs args, const int64_t partial_width) {
  const int64_t head_columns = args.columns / args.heads;
  join_rows<Running, Running::kCount>(
      args.lists, args.columns,
      [&](int64_t index, int64_t column) {
        const float* partial = args.partials + index * partial_width;
        const float* of_head = partial + args.columns + column / head_columns;
        Raw<float, Running::kCount> sums;
        sums.load(partial + column);
        Running loaded;
#pragma unroll
        for (int i = 0; i < Running::kCount; ++i) loaded.sums[i] = sums[i];
        loaded.largest = of_head[0];
        loaded.weights = of_head[args.heads];
        return loaded;
      },
      [&](int row, int64_t column, const Running& total) {
        const float scale = total.weights > 0 ? 1.0f / total.weights : total.weights;
        float scaled[Running::kCount];
#pragma unroll
        for (int i = 0; i < Running::kCount; ++i) scaled[i] = total.sums[i] * scale;
        store<T, Running::kCount>(static_cast<T*>(args.out) + row * args.columns + column, scaled);
        if (column % head_columns == 0) {
          args.log_sum_exp[row * args.heads + column / head_columns] =
              log_sum_exp(total.largest, total.weights);
        }
      });
}

template <typename T, Score kScore, int kLanes, int kChunks>
Status launch_items(cudaStream_t stream, const AttentionArgs& args, const HeadLayout& layout) {
  dim3 grid;
  JAXDIRECT_RETURN_IF_ERROR(work_grid("attention", args.lists.num_items, kLanes,
                                      layout.column_blocks(kLanes * kChunks), &grid));
  attend_items<T, kScore, kLanes, kChunks><<<grid, kWorkThreads, 0, stream>>>(
      args, layout.head_lanes(kLanes), partial_width(args.columns, args.heads));
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "attention");
  return Status::ok();
}

template <typename T, Score kScore>
Status run(cudaStream_t stream, const AttentionArgs& args) {
  HeadLayout layout;
  JAXDIRECT_RETURN_IF_ERROR(
      head_layout("attention", args.columns, args.heads, kVector<T>, &layout));
  if (args.width % kVector<T> != 0 || (kScore == Score::kDot && args.query_width % kVector<T>) ||
      !aligned16(args.rows) || !aligned16(args.queries) || !aligned16(args.out)) {
    return Status::error("attention: rows and queries must be aligned to 16 bytes");
  }
  if (layout.lanes <= 8) {
    JAXDIRECT_RETURN_IF_ERROR((launch_items<T, kScore, 8, 1>(stream, args, layout)));
  } else if (layout.lanes <= 16) {
    JAXDIRECT_RETURN_IF_ERROR((launch_items<T, kScore, 16, 1>(stream, args, layout)));
  } else if (layout.lanes_per_head <= 32) {
    JAXDIRECT_RETURN_IF_ERROR((launch_items<T, kScore, 32, 1>(stream, args, layout)));
  } else if (layout.lanes_per_head <= 64) {
    JAXDIRECT_RETURN_IF_ERROR((launch_items<T, kScore, 32, 2>(stream, args, layout)));
  } else {
    JAXDIRECT_RETURN_IF_ERROR((launch_items<T, kScore, 32, 4>(stream, args, layout)));
  }
  if (args.lists.num_heavy == 0) return Status::ok();
  join_partials<T>
      <<<join_grid<Running::kCount>(args.lists, args.columns), kJoinThreads, 0, stream>>>(
          args, partial_width(args.columns, args.heads));
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "attention");
  return Status::ok();
}

template <typename T>
Status run_score(cudaStream_t stream, const AttentionArgs& args) {
  return args.score == Score::kDot ? run<T, Score::kDot>(stream, args)
                                   : run<T, Score::kAdditive>(stream, args);
}

}  // namespace

Status attention(cudaStream_t stream, const AttentionArgs& args) {
  if (args.lists.num_rows == 0 || args.columns == 0) return Status::ok();
  if (args.num_slots == 0 || args.num_queries == 0) {
    JAXDIRECT_RETURN_IF_CUDA_ERROR(
        cudaMemsetAsync(args.out, 0, args.lists.num_rows * args.columns * size_of(args.type),
                        stream),
        "attention");
    JAXDIRECT_RETURN_IF_CUDA_ERROR(
        cudaMemsetAsync(args.log_sum_exp, 0, args.lists.num_rows * args.heads * sizeof(float),
                        stream),
        "attention");
    return Status::ok();
  }
  if (args.lists.num_items == 0) return Status::error("attention: the lists have no items");
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
  return Status::error("attention: float64 has no CUDA kernel; use implementation='reference'");
}

}  // namespace jaxdirect::relational
