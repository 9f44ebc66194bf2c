// attention_backward for one instruction set; see each_target.h. No include guard.
//
// With a = exp(score - log-sum-exp): d value += a * cotangent; d score = a (<cotangent, value> -
// <cotangent, out>). A thread takes a slot's entries kBatch at a time: products with the
// cotangents' rows first, then all exponentials together, then the weighted sums of those rows.

#include "relational/rows_cpu.h"

namespace jaxdirect::relational::JAXDIRECT_TARGET {
namespace {

// One thread's work on slots.
template <typename T>
class AttentionGradient {
 public:
  using S = Sum<T>;

  AttentionGradient(const AttentionBackwardArgs& args, const HeadMap<S>& heads)
      : args_(args),
        heads_(heads),
        dot_(args.score == Score::kDot),
        prefetch_(args.columns * static_cast<int64_t>(sizeof(T))),
        scores_(room(args)),
        products_(room(args)),
        log_sums_(room(args)),
        deltas_(room(args)),
        part_grad_(args.heads + kLanes<S>),
        total_(args.heads + kLanes<S>),
        value_grad_(round_up(args.columns, kLanes<S>)),
        key_grad_(round_up(args.columns, kLanes<S>)) {}

  void operator()(int64_t slot) {
    const Range range = entries_of(args_.lists, slot);
    T* to = static_cast<T*>(args_.rows_grad) + slot * args_.width;
    bool started = false;
    std::fill(part_grad_.data(), part_grad_.data() + args_.heads + kLanes<S>, S(0));
    for (int64_t begin = range.begin; begin < range.end; begin += kBatch) {
      const int64_t end = std::min(begin + kBatch, range.end);
      const int64_t count = look_up(slot, begin, end);
      if (count == 0) continue;
      differentiate(count);
      // A slot of one batch, as all of a plan are, needs no sums in memory.
      const bool alone = begin == range.begin && end == range.end;
      add(cotangents_, scores_.data(), count, started, alone, value_grad_.data(), values(to));
      if (dot_) {
        add(queries_, products_.data(), count, started, alone, key_grad_.data(), to);
      } else {
        add_part_grad(count);
      }
      started = true;
    }
    finish(to, started, range.count() > kBatch);
  }

 private:
  static int64_t room(const AttentionBackwardArgs& args) {
    return kBatch * args.heads + 2 * kLanes<S>;
  }

  template <typename P>
  P* values(P* row) const {
    return dot_ ? row + args_.columns : row;
  }

  void prefetch_entry(int64_t entry) const {
    if (entry >= args_.lists.num_entries) return;
    const int64_t node = args_.lists.indices[entry];
    if (in_range(node, args_.num_nodes)) {
      prefetch_(static_cast<const T*>(args_.cotangent) + node * args_.columns);
      __builtin_prefetch(args_.stats + node * 2 * args_.heads);
      __builtin_prefetch(args_.stats + node * 2 * args_.heads + args_.heads);
      if (dot_) prefetch_(static_cast<const T*>(args_.queries) + node * args_.query_width);
    }
    const int64_t edge = args_.edges[entry];
    if (!in_range(edge, args_.lists.num_entries)) return;
    __builtin_prefetch(args_.score_grad + edge * args_.heads, 1);
    const int64_t row = dot_ ? -1 : args_.query_rows[entry];
    if (in_range(row, args_.num_queries)) {
      __builtin_prefetch(static_cast<const T*>(args_.queries) + row * args_.query_width);
    }
  }

  // For the entries that count: scores (before the rectifier), products of cotangent and value,
  // and the node's statistics. Their number.
  int64_t look_up(int64_t slot, int64_t begin, int64_t end) {
    const T* row = static_cast<const T*>(args_.rows) + slot * args_.width;
    const int64_t heads = args_.heads;
    int64_t count = 0;
    for (int64_t entry = begin; entry < end; ++entry) {
      prefetch_entry(entry + prefetch_.ahead());
      const int64_t node = args_.lists.indices[entry];
      const int64_t edge = args_.edges[entry];
      if (!in_range(node, args_.num_nodes) || !in_range(edge, args_.lists.num_entries)) continue;
      const int64_t query_row = dot_ ? node : args_.query_rows[entry];
      if (!in_range(query_row, args_.num_queries)) continue;
      const T* query = static_cast<const T*>(args_.queries) + query_row * args_.query_width;
      const T* cotangent = static_cast<const T*>(args_.cotangent) + node * args_.columns;
      const float* stats = args_.stats + node * 2 * heads;
      if (dot_) {
        dot_heads(query, row, args_.columns, heads, scores_.data() + count * heads);
      } else {
        add_heads(row + args_.columns, query, heads, scores_.data() + count * heads);
      }
      dot_heads(cotangent, values(row), args_.columns, heads, products_.data() + count * heads);
      copy_heads(stats, heads, log_sums_.data() + count * heads);
      copy_heads(stats + heads, heads, deltas_.data() + count * heads);
      cotangents_[count] = cotangent;
      queries_[count] = query;
      edges_[count++] = edge;
    }
    return count;
  }

  // scores become the softmax's weights, products the gradients of the scores.
  void differentiate(int64_t count) {
    const int64_t size = count * args_.heads;
    const S slope = dot_ ? S(1) : static_cast<S>(args_.negative_slope);
    S* scores = scores_.data();
    S* products = products_.data();
    for (int64_t i = 0; i < size; i += kLanes<S>) {
      const Vec<S> sum = load(scores + i);
      const Vec<S> bend = sum > S(0) ? splat(S(1)) : splat(slope);
      const Vec<S> weight = exponential<S>(sum * bend - load(log_sums_.data() + i));
      const Vec<S> product = load(products + i) - load(deltas_.data() + i);
      store<S>(scores + i, weight);
      store<S>(products + i, weight * product * bend);
    }
    for (int64_t i = 0; i < count; ++i) {
      float* to = args_.score_grad + edges_[i] * args_.heads;
      for (int64_t h = 0; h < args_.heads; ++h) {
        to[h] = static_cast<float>(products[i * args_.heads + h]);
      }
    }
  }

  // The weighted sum of a batch's rows, to `out` where the slot has no other batch.
  void add(const T* const* rows, const S* weights, int64_t count, bool started, bool alone, S* sums,
           T* out) {
    RowSum<T> sum;
    sum.rows = rows;
    sum.weights = weights;
    sum.count = count;
    sum.heads = &heads_;
    sum.add = started;
    if (!alone) sum.sums = sums;
    sum.out = out;
    sum_rows(sum, args_.columns);
  }

  void add_part_grad(int64_t count) {
    reduce_heads([this](int64_t i) { return load(products_.data() + i); }, count, args_.heads, S(0),
                 total_.data(), [](auto a, auto b) { return a + b; });
    for (int64_t h = 0; h < args_.heads; ++h) part_grad_[h] += total_[h];
  }

  // What `add` has not written: sums of several batches, parts, columns that mean nothing.
  void finish(T* to, bool started, bool in_memory) {
    if (!started) return zero_row(to, args_.width);
    if (in_memory) {
      narrow_row(values(to), value_grad_.data(), S(1), args_.columns);
      if (dot_) narrow_row(to, key_grad_.data(), S(1), args_.columns);
    }
    int64_t used = 2 * args_.columns;
    if (!dot_) {
      narrow_row(to + args_.columns, part_grad_.data(), S(1), args_.heads);
      used = args_.columns + args_.heads;
    }
    zero_row(to + used, args_.width - used);
  }

  const AttentionBackwardArgs& args_;
  const HeadMap<S>& heads_;
  bool dot_;
  Prefetch prefetch_;
  Scratch<S> scores_;
  Scratch<S> products_;
  Scratch<S> log_sums_;
  Scratch<S> deltas_;
  Scratch<S> part_grad_;
  Scratch<S> total_;
  Scratch<S> value_grad_;
  Scratch<S> key_grad_;
  const T* cotangents_[kBatch];
  const T* queries_[kBatch];
  int64_t edges_[kBatch];
};

// stats[node] = log-sum-exp of each head, then <cotangent, out> of each head.
template <typename T>
void fill_stats(const Executor& executor, const AttentionBackwardArgs& args) {
  constexpr int64_t kGrainElements = 1 << 15;
  const int64_t heads = args.heads;
  const int64_t grain = ceil_div(kGrainElements, std::max<int64_t>(args.columns, 1));
  parallel_for(executor, args.num_nodes, grain, [&](int64_t begin, int64_t end) {
    Scratch<Sum<T>> products(heads + kLanes<Sum<T>>);
    for (int64_t node = begin; node < end; ++node) {
      float* to = args.stats + node * 2 * heads;
      const T* cotangent = static_cast<const T*>(args.cotangent) + node * args.columns;
      const T* out = static_cast<const T*>(args.out) + node * args.columns;
      std::copy_n(args.log_sum_exp + node * heads, heads, to);
      dot_heads(cotangent, out, args.columns, heads, products.data());
      for (int64_t h = 0; h < heads; ++h) to[heads + h] = static_cast<float>(products[h]);
    }
  });
}

template <typename T>
void attention_backward(const Executor& executor, const AttentionBackwardArgs& args) {
  fill_stats<T>(executor, args);
  const HeadMap<Sum<T>> heads(args.columns, args.heads);
  for_each_rows(executor, args.lists, [&](int64_t begin, int64_t end) {
    AttentionGradient<T> differentiate(args, heads);
    for (int64_t slot = begin; slot < end; ++slot) differentiate(slot);
  });
}

}  // namespace

void attention_backward(const Executor& executor, const AttentionBackwardArgs& args) {
  with_type(args.type, [&]<typename T>() { attention_backward<T>(executor, args); });
}

}  // namespace jaxdirect::relational::JAXDIRECT_TARGET
