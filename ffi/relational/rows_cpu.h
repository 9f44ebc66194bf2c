// Weighted sums of rows and products of rows, head by head. Compiled per target; no include guard.

#include "common/simd_cpu.h"

namespace jaxdirect::relational::JAXDIRECT_TARGET {

using namespace jaxdirect::JAXDIRECT_TARGET;

namespace {

// Entries whose rows are looked up before they are summed.
inline constexpr int64_t kBatch = 64;

// Which head each column belongs to, vector by vector. The heads of one vector are neighbours, so
// that their weights come with one load from first(v) on.
template <typename S>
class HeadMap {
 public:
  HeadMap(int64_t columns, int64_t heads) : heads_(heads) {
    constexpr int64_t L = kLanes<S>;
    const int64_t head_columns = heads > 0 ? std::max<int64_t>(columns / heads, 1) : 1;
    const int64_t vectors = ceil_div(columns, L);
    first_.resize(vectors);
    lanes_.resize(vectors * L);
    for (int64_t v = 0; v < vectors; ++v) {
      first_[v] = v * L / head_columns;
      for (int64_t i = 0; i < L; ++i) {
        const int64_t column = std::min(v * L + i, columns - 1);
        lanes_[v * L + i] = static_cast<IntOf<S>>(column / head_columns - first_[v]);
      }
    }
  }

  int64_t heads() const { return heads_; }

  // Reads a whole vector of weights.
  Vec<S> expand(const S* weights, int64_t v) const {
    IntVec<S> lanes;
    __builtin_memcpy(&lanes, lanes_.data() + v * kLanes<S>, sizeof(lanes));
    return permute(load(weights + first_[v]), lanes);
  }

 private:
  int64_t heads_;
  std::vector<int64_t> first_;
  std::vector<IntOf<S>> lanes_;
};

// sums[c] = sum over i < count of weights[i, head of c] * rows[i][c].
template <typename T>
struct RowSum {
  const T* const* rows = nullptr;
  const Sum<T>* weights = nullptr;  // [count, heads], and a vector of anything behind
  int64_t count = 0;
  const HeadMap<Sum<T>>* heads = nullptr;
  bool add = false;        // to what `sums` holds
  Sum<T>* sums = nullptr;  // null where `out` takes the result, times `scale`
  T* out = nullptr;
  Sum<T> scale = 1;
};

template <typename T, int kVectors, bool kByHead, bool kPart>
inline void sum_block(const RowSum<T>& sum, int64_t column, int64_t part) {
  using S = Sum<T>;
  constexpr int64_t L = kLanes<S>;
  const auto get = [part](const auto* from) {
    if constexpr (kPart) return load_part(from, part);
    return load(from);
  };
  const auto put = [part](auto* to, Vec<S> value) {
    using To = std::remove_pointer_t<decltype(to)>;
    if constexpr (kPart) return store_part<To>(to, value, part);
    store<To>(to, value);
  };
  const int64_t heads = sum.heads->heads();
  Vec<S> total[kVectors];
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) {
    total[v] = sum.add ? get(sum.sums + column + v * L) : Vec<S>{};
  }
  for (int64_t i = 0; i < sum.count; ++i) {
    const T* row = sum.rows[i] + column;
    if constexpr (kByHead) {
      const S* weights = sum.weights + i * heads;
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        total[v] += sum.heads->expand(weights, column / L + v) * get(row + v * L);
      }
    } else {
      const Vec<S> weight = splat(sum.weights[i]);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) total[v] += weight * get(row + v * L);
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) {
    if (sum.sums != nullptr) {
      put(sum.sums + column + v * L, total[v]);
    } else {
      put(sum.out + column + v * L, total[v] * sum.scale);
    }
  }
}

template <typename T, bool kByHead>
inline void sum_rows_by(const RowSum<T>& sum, int64_t columns) {
  constexpr int64_t L = kLanes<Sum<T>>;
  int64_t column = 0;
  for (; columns - column >= 8 * L; column += 8 * L) {
    sum_block<T, 8, kByHead, false>(sum, column, L);
  }
  if (columns - column >= 4 * L) {
    sum_block<T, 4, kByHead, false>(sum, column, L);
    column += 4 * L;
  }
  if (columns - column >= 2 * L) {
    sum_block<T, 2, kByHead, false>(sum, column, L);
    column += 2 * L;
  }
  if (columns - column >= L) {
    sum_block<T, 1, kByHead, false>(sum, column, L);
    column += L;
  }
  if (column < columns) sum_block<T, 1, kByHead, true>(sum, column, columns - column);
}

template <typename T>
inline void sum_rows(const RowSum<T>& sum, int64_t columns) {
  if (sum.heads->heads() == 1) {
    sum_rows_by<T, false>(sum, columns);
  } else {
    sum_rows_by<T, true>(sum, columns);
  }
}

template <typename T>
inline void zero_row(T* row, int64_t columns) {
  std::memset(static_cast<void*>(row), 0, static_cast<size_t>(columns) * sizeof(T));
}

// row *= factors[head of column].
template <typename S>
inline void scale_row(S* row, const S* factors, const HeadMap<S>& heads, int64_t columns) {
  constexpr int64_t L = kLanes<S>;
  for (int64_t c = 0; c < columns; c += L) {  // rows of sums are padded to whole vectors
    store<S>(row + c, load(row + c) * heads.expand(factors, c / L));
  }
}

template <typename T>
inline void narrow_row(T* out, const Sum<T>* row, Sum<T> scale, int64_t columns) {
  constexpr int64_t L = kLanes<Sum<T>>;
  int64_t c = 0;
  for (; c + L <= columns; c += L) store<T>(out + c, load(row + c) * scale);
  if (c < columns) store_part<T>(out + c, load_part(row + c, columns - c) * scale, columns - c);
}

template <typename T>
inline void widen_row(Sum<T>* out, const T* row, int64_t columns) {
  constexpr int64_t L = kLanes<Sum<T>>;
  int64_t c = 0;
  for (; c + L <= columns; c += L) store<Sum<T>>(out + c, load(row + c));
  if (c < columns) store_part<Sum<T>>(out + c, load_part(row + c, columns - c), columns - c);
}

// products[h] = <a, b> over the columns of head h; writes up to a vector behind.
template <typename T>
inline void dot_heads(const T* a, const T* b, int64_t columns, int64_t heads, Sum<T>* products) {
  using S = Sum<T>;
  constexpr int64_t L = kLanes<S>;
  const int64_t head_columns = columns / heads;
  if (head_columns < L && head_columns > 1 && (head_columns & (head_columns - 1)) == 0) {
    const IntVec<S> leaders = lane_numbers<S>() * static_cast<IntOf<S>>(head_columns);
    const IntVec<S> last = IntVec<S>{} + static_cast<IntOf<S>>(L - 1);
    for (int64_t c = 0; c < columns; c += L) {
      const int64_t part = std::min(L, columns - c);
      const Vec<S> product =
          part == L ? load(a + c) * load(b + c) : load_part(a + c, part) * load_part(b + c, part);
      store<S>(products + c / head_columns,
               permute(sum_runs<S>(product, head_columns), leaders & last));
    }
    return;
  }
  for (int64_t h = 0; h < heads; ++h, a += head_columns, b += head_columns) {
    Vec<S> total = {};
    int64_t c = 0;
    for (; c + L <= head_columns; c += L) total += load(a + c) * load(b + c);
    if (c < head_columns) {
      total += load_part(a + c, head_columns - c) * load_part(b + c, head_columns - c);
    }
    products[h] = sum_lanes<S>(total);
  }
}

// sums = a + b for each head; writes up to a vector behind.
template <typename T>
inline void add_heads(const T* a, const T* b, int64_t heads, Sum<T>* sums) {
  using S = Sum<T>;
  constexpr int64_t L = kLanes<S>;
  int64_t h = 0;
  for (; h + L <= heads; h += L) store<S>(sums + h, load(a + h) + load(b + h));
  if (h < heads) store<S>(sums + h, load_part(a + h, heads - h) + load_part(b + h, heads - h));
}

// Numbers of each head; writes up to a vector behind.
template <typename S>
inline void copy_heads(const float* from, int64_t heads, S* to) {
  if constexpr (std::is_same_v<S, float>) {
    constexpr int64_t L = kLanes<S>;
    int64_t h = 0;
    for (; h + L <= heads; h += L) store<S>(to + h, load(from + h));
    if (h < heads) store<S>(to + h, load_part(from + h, heads - h));
  } else {
    for (int64_t h = 0; h < heads; ++h) to[h] = from[h];
  }
}

// Lane i becomes the reduction over all lanes of head i % heads, a power of two.
template <typename S, typename Reduce>
inline Vec<S> reduce_lanes(Vec<S> vector, int64_t heads, const Reduce& reduce) {
  const IntVec<S> lanes = lane_numbers<S>();
  for (IntOf<S> step = static_cast<IntOf<S>>(heads); step < kLanes<S>; step *= 2) {
    vector = reduce(vector, permute(vector, lanes ^ step));
  }
  return vector;
}

// The reduction over the first `size` of numbers whose vector at i is get(i), lane by lane.
template <typename S, typename Get, typename Reduce>
inline Vec<S> reduce_vectors(const Get& get, int64_t size, S neutral, const Reduce& reduce) {
  constexpr int64_t L = kLanes<S>;
  Vec<S> total = splat(neutral);
  int64_t i = 0;
  for (; i + L <= size; i += L) total = reduce(total, get(i));
  if (i < size) {
    const auto counts = lane_numbers<S>() < static_cast<IntOf<S>>(size - i);
    total = reduce(total, counts ? get(i) : splat(neutral));
  }
  return total;
}

// result[h] = reduction over i of element [i, h] of a flat [count, heads] whose vector at i is
// get(i). Reads and writes up to a vector behind.
template <typename S, typename Get, typename Reduce>
inline void reduce_heads(const Get& get, int64_t count, int64_t heads, S neutral, S* result,
                         const Reduce& reduce) {
  constexpr int64_t L = kLanes<S>;
  if (L % heads == 0) {
    const Vec<S> lanes = reduce_vectors<S>(get, count * heads, neutral, reduce);
    return store<S>(result, reduce_lanes<S>(lanes, heads, reduce));
  }
  for (int64_t h = 0; h < heads; h += L) {
    Vec<S> total = splat(neutral);
    for (int64_t i = 0; i < count; ++i) total = reduce(total, get(i * heads + h));
    store<S>(result + h, total);
  }
}

// values[i, h] = apply(values[i, h], factors[h]). With kRoom it may go on for a vector.
template <bool kRoom, typename S, typename Apply>
inline void apply_heads(S* values, int64_t count, int64_t heads, const S* factors,
                        const Apply& apply) {
  constexpr int64_t L = kLanes<S>;
  const auto each = [&apply](S* at, int64_t size, const auto& factor) {
    int64_t i = 0;
    for (; i + L <= size; i += L) store<S>(at + i, apply(load(at + i), factor(i)));
    if (i == size) return;
    if constexpr (kRoom) {
      store<S>(at + i, apply(load(at + i), factor(i)));
    } else {
      store_part<S>(at + i, apply(load_part(at + i, size - i), factor(i)), size - i);
    }
  };
  if (L % heads == 0) {
    IntVec<S> lanes = lane_numbers<S>();
    lanes &= static_cast<IntOf<S>>(heads - 1);
    const Vec<S> factor = permute(load(factors), lanes);
    return each(values, count * heads, [&](int64_t) { return factor; });
  }
  // Not beyond an entry, whose next one has yet to come.
  for (int64_t i = 0; i < count; ++i) {
    S* at = values + i * heads;
    int64_t h = 0;
    for (; h + L <= heads; h += L) store<S>(at + h, apply(load(at + h), load(factors + h)));
    if (h < heads) {
      store_part<S>(at + h, apply(load_part(at + h, heads - h), load(factors + h)), heads - h);
    }
  }
}

}  // namespace
}  // namespace jaxdirect::relational::JAXDIRECT_TARGET
