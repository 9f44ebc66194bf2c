// sum and dot for one instruction set; see each_target.h. No include guard.

#include "relational/gather_rows_cpu.h"

namespace jaxdirect::relational::JAXDIRECT_TARGET {
namespace {

template <typename T>
void sum(const Executor& executor, const SumArgs& args) {
  using S = Sum<T>;
  const int64_t heads = args.weights == nullptr ? 1 : args.heads;
  const HeadMap<S> head_map(args.columns, heads);
  typename RowGatherer<T>::Source source;
  source.values = static_cast<const T*>(args.values) + args.first_column;
  source.num_values = args.num_values;
  source.stride = args.width;
  source.columns = args.columns;
  source.indices = args.lists.indices;
  source.num_entries = args.lists.num_entries;
  source.weights = args.weights;
  source.weight_rows = args.weight_rows;
  source.num_weights = args.num_weights;
  for_each_rows(executor, args.lists, [&](int64_t begin, int64_t end) {
    RowGatherer<T> gather(source, head_map);
    const int64_t last = std::min(end, args.first_row + args.num_out);
    for (int64_t row = std::max(begin, args.first_row); row < last; ++row) {
      gather(entries_of(args.lists, row), S(1),
             static_cast<T*>(args.out) + (row - args.first_row) * args.columns);
    }
  });
}

template <typename T>
void dot(const Executor& executor, const DotArgs& args) {
  using S = Sum<T>;
  const auto* b = static_cast<const T*>(args.b);
  const Prefetch prefetch(args.columns * static_cast<int64_t>(sizeof(T)));
  for_each_rows(executor, args.lists, [&](int64_t begin, int64_t end) {
    Scratch<S> products(args.heads + kLanes<S>);
    for (int64_t row = begin; row < end; ++row) {
      const Range range = entries_of(args.lists, row);
      const T* a = static_cast<const T*>(args.a) + row * args.columns;
      for (int64_t entry = range.begin; entry < range.end; ++entry) {
        const int64_t later = entry + prefetch.ahead();
        if (later < args.lists.num_entries && in_range(args.lists.indices[later], args.num_b)) {
          prefetch(b + args.lists.indices[later] * args.columns);
        }
        const int64_t index = args.lists.indices[entry];
        const int64_t to = args.weight_rows == nullptr ? entry : args.weight_rows[entry];
        if (!in_range(index, args.num_b) || !in_range(to, args.lists.num_entries)) continue;
        dot_heads(a, b + index * args.columns, args.columns, args.heads, products.data());
        float* out = args.out + to * args.heads;
        for (int64_t h = 0; h < args.heads; ++h) out[h] = static_cast<float>(products[h]);
      }
    }
  });
}

}  // namespace

void sum(const Executor& executor, const SumArgs& args) {
  with_type(args.type, [&]<typename T>() { sum<T>(executor, args); });
}

void dot(const Executor& executor, const DotArgs& args) {
  with_type(args.type, [&]<typename T>() { dot<T>(executor, args); });
}

}  // namespace jaxdirect::relational::JAXDIRECT_TARGET
