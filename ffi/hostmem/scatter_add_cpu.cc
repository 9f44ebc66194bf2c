#include <algorithm>
#include <cstring>
#include <vector>

#include "common/half.h"
#include "hostmem/scatter_add.h"

namespace jaxdirect::hostmem {
namespace {

// Each thread owns pieces of the table and walks all ids for each: no row is summed by
// two threads, and every row in the order of the ids.
constexpr int64_t kPiecesPerThread = 2;

template <typename Sum, typename Value>
void add_rows(const ScatterAddArgs& args, int64_t begin, int64_t end, Sum* sums) {
  const auto* rows = static_cast<const Value*>(args.rows);
  for (int64_t i = 0; i < args.list.count; ++i) {
    const int64_t id = args.list.ids[i];
    if (id < begin || id >= end) continue;
    Sum* sum = sums + (id - begin) * args.columns;
    const Value* row = rows + i * args.columns;
    for (int64_t column = 0; column < args.columns; ++column) {
      sum[column] += static_cast<Sum>(row[column]);
    }
  }
}

template <typename Sum>
void add_in_place(const ScatterAddArgs& args, int64_t begin, int64_t end) {
  Sum* sums = static_cast<Sum*>(args.table) + begin * args.columns;
  std::fill(sums, sums + (end - begin) * args.columns, Sum{0});
  add_rows<Sum, Sum>(args, begin, end, sums);
}

// Short floats are summed in float32 and rounded once.
template <typename Short>
void add_widened(const ScatterAddArgs& args, int64_t begin, int64_t end) {
  std::vector<float> sums((end - begin) * args.columns, 0.0f);
  add_rows<float, Short>(args, begin, end, sums.data());
  Short* table = static_cast<Short*>(args.table) + begin * args.columns;
  for (size_t i = 0; i < sums.size(); ++i) table[i] = Short(sums[i]);
}

}  // namespace

Status scatter_add(const Executor& executor, const ScatterAddArgs& args) {
  if (args.list.num_rows == 0 || args.columns == 0) return Status::ok();
  const int64_t pieces = executor.num_threads * kPiecesPerThread;
  const int64_t grain = (args.list.num_rows + pieces - 1) / pieces;
  parallel_for(executor, args.list.num_rows, grain, [&](int64_t begin, int64_t end) {
    switch (args.type) {
      case FloatType::kF16:
        return add_widened<Half>(args, begin, end);
      case FloatType::kBF16:
        return add_widened<BFloat16>(args, begin, end);
      case FloatType::kF32:
        return add_in_place<float>(args, begin, end);
      case FloatType::kF64:
        return add_in_place<double>(args, begin, end);
    }
  });
  return Status::ok();
}

}  // namespace jaxdirect::hostmem
