// attention and its backward for one instruction set; see each_target.h. No include guard.
//
// A thread takes a row's entries kBatch at a time: scores first (flat, [entries, heads]), then
// their exponentials together, then the weighted sum of the rows, which are in the caches by now.

#include "relational/rows_cpu.h"

namespace jaxdirect::relational::JAXDIRECT_TARGET {
namespace {

template <typename S>
inline Vec<S> larger(Vec<S> a, Vec<S> b) {
  return b > a ? b : a;  // a NaN in b is left out
}

// One thread's work on nodes.
template <typename T>
class Attender {
 public:
  using S = Sum<T>;

  Attender(const AttentionArgs& args, const HeadMap<S>& heads)
      : args_(args),
        heads_(heads),
        prefetch_(args.width * static_cast<int64_t>(sizeof(T))),
        scores_(kBatch * args.heads + 2 * kLanes<S>),
        sums_(round_up(args.columns, kLanes<S>)),
        largest_(args.heads + kLanes<S>),
        weights_(args.heads + kLanes<S>),
        shift_(args.heads + kLanes<S>),
        batch_(args.heads + kLanes<S>) {
    std::fill(batch_.data(), batch_.data() + args.heads + kLanes<S>, S(0));
  }

  void operator()(int64_t node) {
    const Range range = entries_of(args_.lists, node);
    T* out = static_cast<T*>(args_.out) + node * args_.columns;
    float* log_sum_exp = args_.log_sum_exp + node * args_.heads;
    const int64_t heads = args_.heads;
    std::fill(largest_.data(), largest_.data() + heads + kLanes<S>, kNone);
    std::fill(weights_.data(), weights_.data() + heads + kLanes<S>, S(0));
    bool started = false;
    for (int64_t begin = range.begin; begin < range.end; begin += kBatch) {
      const int64_t end = std::min(begin + kBatch, range.end);
      const int64_t count = look_up(node, begin, end);
      if (count == 0) continue;
      weigh(count, started);
      // A row of one batch needs no sums in memory.
      const bool alone = begin == range.begin && end == range.end;
      if (alone) {
        apply_heads<true>(scores_.data(), count, heads, inverse(),
                          [](auto a, auto b) { return a * b; });
      }
      add(count, started, alone ? out : nullptr);
      started = true;
    }
    if (!started) {
      zero_row(out, args_.columns);
    } else if (range.count() > kBatch) {
      scale_row(sums_.data(), inverse(), heads_, args_.columns);
      narrow_row(out, sums_.data(), S(1), args_.columns);
    }
    write_log_sum_exp(log_sum_exp);
  }

 private:
  static constexpr S kNone = -std::numeric_limits<S>::infinity();

  // Finds the rows of the entries that count, and their scores; their number.
  int64_t look_up(int64_t node, int64_t begin, int64_t end) {
    const bool dot = args_.score == Score::kDot;
    const auto* rows = static_cast<const T*>(args_.rows);
    const auto* queries = static_cast<const T*>(args_.queries);
    const auto* indices = args_.lists.indices;
    int64_t count = 0;
    for (int64_t entry = begin; entry < end; ++entry) {
      const int64_t later = entry + prefetch_.ahead();
      if (later < args_.lists.num_entries) {
        if (in_range(indices[later], args_.num_slots)) {
          const T* row = rows + indices[later] * args_.width;
          prefetch_(row);
        }
        if (!dot && in_range(args_.query_rows[later], args_.num_queries)) {
          __builtin_prefetch(queries + args_.query_rows[later] * args_.query_width);
        }
      }
      const int64_t slot = indices[entry];
      const int64_t query_row = dot ? node : args_.query_rows[entry];
      if (!in_range(slot, args_.num_slots) || !in_range(query_row, args_.num_queries)) continue;
      const T* row = rows + slot * args_.width;
      const T* query = queries + query_row * args_.query_width;
      S* scores = scores_.data() + count * args_.heads;
      if (dot) {
        dot_heads(query, row, args_.columns, args_.heads, scores);
        rows_[count++] = row + args_.columns;
      } else {
        add_heads(row + args_.columns, query, args_.heads, scores);
        rows_[count++] = row;
      }
    }
    return count;
  }

  // From the scores of a batch to weights relative to the largest so far.
  void weigh(int64_t count, bool started) {
    const int64_t heads = args_.heads;
    const int64_t size = count * heads;
    S* scores = scores_.data();
    if (args_.score == Score::kAdditive) {
      const S slope = args_.negative_slope;
      for (int64_t i = 0; i < size; i += kLanes<S>) {
        const Vec<S> sum = load(scores + i);
        store<S>(scores + i, sum > S(0) ? sum : sum * slope);
      }
    }
    const auto get = [scores](int64_t i) { return load(scores + i); };
    reduce_heads(get, count, heads, kNone, batch_.data(), larger<S>);
    for (int64_t h = 0; h < heads; h += kLanes<S>) {
      const Vec<S> before = load(largest_.data() + h);
      const Vec<S> both = larger<S>(before, load(batch_.data() + h));
      // Nothing against nothing: a shift of 0 gives weights of 0.
      const Vec<S> base = both > kNone ? both : Vec<S>{};
      store<S>(largest_.data() + h, both);
      store<S>(batch_.data() + h, base);
      store<S>(shift_.data() + h, exponential<S>(before - base));
    }
    apply_heads<true>(scores, count, heads, batch_.data(), [](auto a, auto b) { return a - b; });
    for (int64_t i = 0; i < size; i += kLanes<S>) {
      store<S>(scores + i, exponential<S>(load(scores + i)));
    }
    reduce_heads(get, count, heads, S(0), batch_.data(), [](auto a, auto b) { return a + b; });
    for (int64_t h = 0; h < heads; h += kLanes<S>) {
      store<S>(weights_.data() + h,
               load(weights_.data() + h) * load(shift_.data() + h) + load(batch_.data() + h));
    }
    if (started) scale_row(sums_.data(), shift_.data(), heads_, args_.columns);
  }

  void add(int64_t count, bool started, T* out) {
    RowSum<T> sum;
    sum.rows = rows_;
    sum.weights = scores_.data();
    sum.count = count;
    sum.heads = &heads_;
    sum.add = started;
    if (out == nullptr) sum.sums = sums_.data();
    sum.out = out;
    sum_rows(sum, args_.columns);
  }

  // 1 / the sum of weights, or what it is where that means nothing.
  const S* inverse() {
    for (int64_t h = 0; h < args_.heads; h += kLanes<S>) {
      const Vec<S> sum = load(weights_.data() + h);
      store<S>(shift_.data() + h, sum > S(0) ? S(1) / sum : sum);
    }
    return shift_.data();
  }

  void write_log_sum_exp(float* to) {
    for (int64_t h = 0; h < args_.heads; h += kLanes<S>) {
      const Vec<S> sum = load(weights_.data() + h);
      const Vec<S> log = logarithm<S>(sum) + load(largest_.data() + h);
      store<S>(shift_.data() + h, sum > S(0) ? log : sum);
    }
    for (int64_t h = 0; h < args_.heads; ++h) to[h] = static_cast<float>(shift_[h]);
  }

  const AttentionArgs& args_;
  const HeadMap<S>& heads_;
  Prefetch prefetch_;
  Scratch<S> scores_;
  Scratch<S> sums_;
  Scratch<S> largest_;
  Scratch<S> weights_;
  Scratch<S> shift_;
  Scratch<S> batch_;
  const T* rows_[kBatch];
};

template <typename T>
void attention(const Executor& executor, const AttentionArgs& args) {
  const HeadMap<Sum<T>> heads(args.columns, args.heads);
  for_each_rows(executor, args.lists, [&](int64_t begin, int64_t end) {
    Attender<T> attend(args, heads);
    for (int64_t node = begin; node < end; ++node) attend(node);
  });
}

}  // namespace

void attention(const Executor& executor, const AttentionArgs& args) {
  with_type(args.type, [&]<typename T>() { attention<T>(executor, args); });
}

}  // namespace jaxdirect::relational::JAXDIRECT_TARGET
