// softmax and its backward for one instruction set; see each_target.h. No include guard.
//
// The scores of a block of rows are gathered into flat [entries, heads], worked on there row by
// row, and scattered: loops over all entries of a block end where the CPU expects it.

#include "relational/rows_cpu.h"

namespace jaxdirect::relational::JAXDIRECT_TARGET {
namespace {

// Neighbouring rows, whose entries follow one another.
class RowBlock {
 public:
  // Takes rows from `row` on; the first that it leaves.
  int64_t fill(const Lists& lists, int64_t row, int64_t end) {
    count_ = 0;
    entries_ = {};
    for (; row < end && count_ < kMostRows && entries_.count() < kEnough; ++row) {
      const Range range = entries_of(lists, row);
      if (range.count() == 0) continue;
      if (count_ == 0) entries_.begin = range.begin;
      if (count_ > 0 && range.begin != entries_.end) break;  // no plan's indptr
      entries_.end = range.end;
      rows_[count_++] = range;
    }
    return row;
  }

  Range entries() const { return entries_; }
  const Range* begin() const { return rows_; }
  const Range* end() const { return rows_ + count_; }

 private:
  static constexpr int64_t kMostRows = 64;
  static constexpr int64_t kEnough = 512;
  int64_t count_ = 0;
  Range entries_;
  Range rows_[kMostRows];
};

// The scores of a block, by entry.
template <typename T>
class Scores {
 public:
  using S = Sum<T>;

  Scores(const Lists& lists, const int32_t* edges, int64_t heads)
      : num_entries_(lists.num_entries), edges_(edges), heads_(heads) {}

  // A row's scores; up to two vectors may be read behind them.
  S* row(const RowBlock& block, Range range) {
    return values_.data() + (range.begin - block.entries().begin) * heads_;
  }

  // Entries without an edge hold `other`. What lies at `next`, if any, is wanted soon.
  void gather(const T* from, const RowBlock& block, S other, const T* next = nullptr) {
    const auto room = static_cast<size_t>(block.entries().count() * heads_ + 2 * kLanes<S>);
    if (values_.size() < room) values_.resize(room);
    S* to = values_.data();
    for (int64_t e = block.entries().begin; e < block.entries().end; ++e, to += heads_) {
      const int64_t later = e + kAhead;
      if (later < num_entries_ && in_range(edges_[later], num_entries_)) {
        __builtin_prefetch(from + edges_[later] * heads_);
      }
      const int64_t edge = edges_[e];
      if (!in_range(edge, num_entries_)) {
        std::fill(to, to + heads_, other);
        continue;
      }
      if (next != nullptr) __builtin_prefetch(next + edge * heads_, 1);
      if (heads_ == 1) {
        to[0] = static_cast<S>(from[edge]);
      } else {
        widen_row(to, from + edge * heads_, heads_);
      }
    }
  }

  void scatter(T* out, const RowBlock& block) {
    const S* from = values_.data();
    for (int64_t e = block.entries().begin; e < block.entries().end; ++e, from += heads_) {
      const int64_t edge = edges_[e];
      if (!in_range(edge, num_entries_)) continue;
      if (heads_ == 1) {
        out[edge] = static_cast<T>(from[0]);
      } else {
        narrow_row(out + edge * heads_, from, S(1), heads_);
      }
    }
  }

 private:
  static constexpr int64_t kAhead = 64;
  int64_t num_entries_;
  const int32_t* edges_;
  int64_t heads_;
  std::vector<S> values_;
};

template <typename S>
inline constexpr S kNone = -std::numeric_limits<S>::infinity();

// 1 / sum, but 0 for a row of minus infinities alone; NaN goes on to the result.
template <typename S>
inline Vec<S> inverse(Vec<S> sum) {
  return sum > S(0) ? S(1) / sum : sum;
}

template <typename S>
inline void softmax_row(S* values, int64_t count, int64_t heads, S* numbers) {
  constexpr int64_t L = kLanes<S>;
  const auto larger = [](auto a, auto b) { return b > a ? b : a; };
  const auto plus = [](auto a, auto b) { return a + b; };
  const auto get = [values](int64_t i) { return load(values + i); };
  const int64_t size = count * heads;
  if (L % heads == 0 && size <= L) {  // all in one vector, as most rows are
    const Vec<S> none = splat(kNone<S>);
    const Vec<S> scores = lane_numbers<S>() < static_cast<IntOf<S>>(size) ? load(values) : none;
    const Vec<S> largest = reduce_lanes<S>(scores, heads, larger);
    const Vec<S> weights = exponential<S>(scores - (largest > none ? largest : Vec<S>{}));
    const Vec<S> scale = inverse<S>(reduce_lanes<S>(weights, heads, plus));
    return store_part<S>(values, weights * scale, size);
  }
  reduce_heads(get, count, heads, kNone<S>, numbers, larger);
  for (int64_t h = 0; h < heads; h += L) {
    const Vec<S> largest = load(numbers + h);
    store<S>(numbers + h, largest > kNone<S> ? largest : Vec<S>{});
  }
  apply_heads<false>(values, count, heads, numbers,
                     [](auto a, auto b) { return exponential<S>(a - b); });
  reduce_heads(get, count, heads, S(0), numbers, plus);
  for (int64_t h = 0; h < heads; h += L) store<S>(numbers + h, inverse<S>(load(numbers + h)));
  apply_heads<false>(values, count, heads, numbers, [](auto a, auto b) { return a * b; });
}

// grads = outs * (grads - the row's sum of outs * grads)
template <typename S>
inline void gradient_row(const S* outs, S* grads, int64_t count, int64_t heads, S* numbers) {
  constexpr int64_t L = kLanes<S>;
  const auto plus = [](auto a, auto b) { return a + b; };
  reduce_heads([&](int64_t i) { return load(outs + i) * load(grads + i); }, count, heads, S(0),
               numbers, plus);
  apply_heads<false>(grads, count, heads, numbers, [](auto a, auto b) { return a - b; });
  const int64_t size = count * heads;
  int64_t i = 0;
  for (; i + L <= size; i += L) store<S>(grads + i, load(outs + i) * load(grads + i));
  if (i < size) store_part<S>(grads + i, load(outs + i) * load(grads + i), size - i);
}

template <typename T>
void softmax(const Executor& executor, const SoftmaxArgs& args) {
  using S = Sum<T>;
  for_each_rows(executor, args.lists, [&](int64_t begin, int64_t end) {
    RowBlock block;
    Scores<T> scores(args.lists, args.edges, args.heads);
    const Scratch<S> numbers(args.heads + kLanes<S>);
    while (begin < end) {
      begin = block.fill(args.lists, begin, end);
      scores.gather(static_cast<const T*>(args.logits), block, kNone<S>,
                    static_cast<const T*>(args.out));
      for (const Range range : block) {
        softmax_row(scores.row(block, range), range.count(), args.heads, numbers.data());
      }
      scores.scatter(static_cast<T*>(args.out), block);
    }
  });
}

template <typename T>
void softmax_backward(const Executor& executor, const SoftmaxBackwardArgs& args) {
  using S = Sum<T>;
  for_each_rows(executor, args.lists, [&](int64_t begin, int64_t end) {
    RowBlock block;
    Scores<T> outs(args.lists, args.edges, args.heads);
    Scores<T> grads(args.lists, args.edges, args.heads);
    const Scratch<S> numbers(args.heads + kLanes<S>);
    while (begin < end) {
      begin = block.fill(args.lists, begin, end);
      outs.gather(static_cast<const T*>(args.out), block, S(0));
      grads.gather(static_cast<const T*>(args.cotangent), block, S(0),
                   static_cast<const T*>(args.grad));
      for (const Range range : block) {
        gradient_row(outs.row(block, range), grads.row(block, range), range.count(), args.heads,
                     numbers.data());
      }
      grads.scatter(static_cast<T*>(args.grad), block);
    }
  });
}

}  // namespace

void softmax(const Executor& executor, const SoftmaxArgs& args) {
  with_type(args.type, [&]<typename T>() { softmax<T>(executor, args); });
}

void softmax_backward(const Executor& executor, const SoftmaxBackwardArgs& args) {
  with_type(args.type, [&]<typename T>() { softmax_backward<T>(executor, args); });
}

}  // namespace jaxdirect::relational::JAXDIRECT_TARGET
