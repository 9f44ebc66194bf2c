#include "relational/cpu.h"
#include "relational/largest.h"

namespace jaxdirect::relational {
namespace {

// The weights of an entry, or null where it counts nothing.
const float* weights_of(const EntryWeights& weights, int64_t entry) {
  static constexpr float kOne = 1.0F;
  if (weights.data == nullptr) return &kOne;
  const int64_t row = weights.rows == nullptr ? entry : weights.rows[entry];
  return in_range(row, weights.num_weights) ? weights.data + row * weights.heads : nullptr;
}

// Calls visit(entry, index, weight, first column, end) for each entry of a row that counts, and
// each run of columns that has a weight of its own.
template <typename S, typename Args, typename Visit>
void for_each_entry(const Args& args, int64_t row, const Visit& visit) {
  const int64_t heads = args.weights.data == nullptr ? 1 : args.weights.heads;
  const int64_t width = args.columns / heads;
  const Range range = entries_of(args.lists, row);
  for (int64_t entry = range.begin; entry < range.end; ++entry) {
    const int64_t index = args.lists.indices[entry];
    const float* factors = weights_of(args.weights, entry);
    if (!in_range(index, args.num_values) || factors == nullptr) continue;
    for (int64_t h = 0; h < heads; ++h) {
      visit(entry, index, static_cast<S>(factors[h]), h * width, (h + 1) * width);
    }
  }
}

template <typename T>
void largest(const Executor& executor, const LargestArgs& args) {
  using S = Sum<T>;
  const int64_t columns = args.columns;
  for_each_rows(executor, args.lists, [&](int64_t begin, int64_t end) {
    Scratch<S> best(columns);
    for (int64_t row = begin; row < end; ++row) {
      int32_t* winners = args.winners + row * columns;
      std::fill(best.data(), best.data() + columns, S(0));
      std::fill(winners, winners + columns, -1);
      for_each_entry<S>(
          args, row, [&](int64_t entry, int64_t index, S weight, int64_t c, int64_t last) {
            const T* values = static_cast<const T*>(args.values) + index * columns;
            for (; c < last; ++c) {
              const S value = weight * static_cast<S>(values[c]);
              const bool better =
                  winners[c] < 0 || value > best[c] || (std::isnan(value) && !std::isnan(best[c]));
              best[c] = better ? value : best[c];
              winners[c] = better ? static_cast<int32_t>(entry) : winners[c];
            }
          });
      T* out = static_cast<T*>(args.out) + row * columns;
      for (int64_t c = 0; c < columns; ++c) out[c] = static_cast<T>(best[c]);
    }
  });
}

template <typename T>
void picked_sum(const Executor& executor, const PickedSumArgs& args) {
  using S = Sum<T>;
  const int64_t columns = args.columns;
  for_each_rows(executor, args.lists, [&](int64_t begin, int64_t end) {
    Scratch<S> sums(columns);
    for (int64_t row = begin; row < end; ++row) {
      std::fill(sums.data(), sums.data() + columns, S(0));
      for_each_entry<S>(
          args, row, [&](int64_t entry, int64_t index, S weight, int64_t c, int64_t last) {
            const T* values = static_cast<const T*>(args.values) + index * columns;
            const int32_t* winners = args.winners + index * columns;
            const int32_t edge = args.edges[entry];
            for (; c < last; ++c) {
              sums[c] += winners[c] == edge ? weight * static_cast<S>(values[c]) : S(0);
            }
          });
      T* out = static_cast<T*>(args.out) + row * columns;
      for (int64_t c = 0; c < columns; ++c) out[c] = static_cast<T>(sums[c]);
    }
  });
}

template <typename T>
void picked_dot(const Executor& executor, const PickedDotArgs& args) {
  using S = Sum<T>;
  const int64_t columns = args.columns;
  const int64_t width = columns / args.heads;
  for_each_rows(executor, args.lists, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* a = static_cast<const T*>(args.a) + row * columns;
      const int32_t* winners = args.winners + row * columns;
      const Range range = entries_of(args.lists, row);
      for (int64_t entry = range.begin; entry < range.end; ++entry) {
        const int64_t index = args.lists.indices[entry];
        const int64_t to = args.to == nullptr ? entry : args.to[entry];
        if (!in_range(index, args.num_b) || !in_range(to, args.lists.num_entries)) continue;
        const T* b = static_cast<const T*>(args.b) + index * columns;
        for (int64_t h = 0; h < args.heads; ++h) {
          S sum = 0;
          for (int64_t c = h * width; c < (h + 1) * width; ++c) {
            sum += winners[c] == entry ? static_cast<S>(a[c]) * static_cast<S>(b[c]) : S(0);
          }
          args.out[to * args.heads + h] = static_cast<float>(sum);
        }
      }
    }
  });
}

}  // namespace

Status largest(const Executor& executor, const LargestArgs& args) {
  with_type(args.type, [&]<typename T>() { largest<T>(executor, args); });
  return Status::ok();
}

Status picked_sum(const Executor& executor, const PickedSumArgs& args) {
  with_type(args.type, [&]<typename T>() { picked_sum<T>(executor, args); });
  return Status::ok();
}

Status picked_dot(const Executor& executor, const PickedDotArgs& args) {
  // Padding entries belong to no row.
  fill_zero(executor, args.out, args.lists.num_entries * args.heads * int64_t{sizeof(float)});
  with_type(args.type, [&]<typename T>() { picked_dot<T>(executor, args); });
  return Status::ok();
}

}  // namespace jaxdirect::relational
