// Sums over the entries of Lists. Compiled per target; no include guard.

#include "relational/rows_cpu.h"

namespace jaxdirect::relational::JAXDIRECT_TARGET {
namespace {

// Sums rows of `values` over ranges of entries, batch by batch, one thread's worth.
template <typename T>
class RowGatherer {
 public:
  using S = Sum<T>;

  struct Source {
    const T* values = nullptr;  // row i starts at values + i * stride
    int64_t num_values = 0;
    int64_t stride = 0;
    int64_t columns = 0;
    const int32_t* indices = nullptr;
    int64_t num_entries = 0;
    const float* weights = nullptr;        // [num_weights, heads], or null: 1
    const int32_t* weight_rows = nullptr;  // null: an entry's own
    int64_t num_weights = 0;
  };

  RowGatherer(const Source& source, const HeadMap<S>& heads)
      : source_(source),
        heads_(heads),
        prefetch_(source.columns * static_cast<int64_t>(sizeof(T))),
        weights_(kBatch * heads.heads() + kLanes<S>),
        sums_(round_up(source.columns, kLanes<S>)) {
    std::fill(weights_.data(), weights_.data() + kBatch * heads.heads() + kLanes<S>, S(1));
  }

  // out = scale * the sum over the entries of `range`.
  void operator()(Range range, S scale, T* out) {
    if (range.count() == 0) return zero_row(out, source_.columns);
    RowSum<T> sum;
    sum.rows = rows_;
    sum.weights = weights_.data();
    sum.heads = &heads_;
    if (range.count() <= kBatch) {
      sum.count = look_up(range);
      sum.out = out;
      sum.scale = scale;
      return sum_rows(sum, source_.columns);
    }
    sum.sums = sums_.data();
    for (int64_t begin = range.begin; begin < range.end; begin += kBatch) {
      sum.count = look_up({begin, std::min(begin + kBatch, range.end)});
      sum_rows(sum, source_.columns);
      sum.add = true;
    }
    narrow_row(out, sums_.data(), scale, source_.columns);
  }

 private:
  // Finds the rows and weights of the entries that count; their number.
  int64_t look_up(Range range) {
    int64_t count = 0;
    const int64_t heads = heads_.heads();
    for (int64_t entry = range.begin; entry < range.end; ++entry) {
      const int64_t later = entry + prefetch_.ahead();
      if (later < source_.num_entries) {
        const int64_t index = source_.indices[later];
        if (in_range(index, source_.num_values)) {
          prefetch_(source_.values + index * source_.stride);
        }
      }
      const int64_t index = source_.indices[entry];
      if (!in_range(index, source_.num_values)) continue;
      if (source_.weights != nullptr) {
        const int64_t row = source_.weight_rows == nullptr ? entry : source_.weight_rows[entry];
        if (!in_range(row, source_.num_weights)) continue;
        const float* from = source_.weights + row * heads;
        S* to = weights_.data() + count * heads;
        if (heads == 1) {
          to[0] = static_cast<S>(from[0]);
        } else {
          copy_heads(from, heads, to);
        }
      }
      rows_[count++] = source_.values + index * source_.stride;
    }
    return count;
  }

  Source source_;
  const HeadMap<S>& heads_;
  Prefetch prefetch_;
  Scratch<S> weights_;
  Scratch<S> sums_;
  const T* rows_[kBatch];
};

}  // namespace
}  // namespace jaxdirect::relational::JAXDIRECT_TARGET
