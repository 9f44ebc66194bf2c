#include "relational/cpu.h"
#include "relational/linear.h"

#define JAXDIRECT_TARGET_CODE "relational/linear_target.h"
#include "common/each_target.h"

namespace jaxdirect::relational {
namespace {

// Zeroes the rows that no slot writes.
void zero_other_rows(const Executor& executor, const LinearArgs& args) {
  std::vector<uint8_t> written(args.num_out, 0);
  for (int64_t slot = 0; slot < kTile * args.num_tiles; ++slot) {
    if (in_range(args.nodes[slot], args.num_out)) written[args.nodes[slot]] = 1;
  }
  const int64_t row_bytes = args.out_dim * size_of(args.type);
  parallel_for(executor, args.num_out, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      if (written[row] != 0) continue;
      std::memset(static_cast<std::byte*>(args.out) + row * row_bytes, 0,
                  static_cast<size_t>(row_bytes));
    }
  });
}

}  // namespace

Status linear(const Executor& executor, const LinearArgs& args) {
  const int64_t row_bytes = args.out_dim * size_of(args.type);
  advise_huge_pages(args.out, args.num_out * row_bytes);
  if (args.scatter && args.fill) zero_other_rows(executor, args);
  if (args.num_tiles == 0) return Status::ok();
  JAXDIRECT_FOR_THIS_CPU(linear(executor, args));
  return Status::ok();
}

}  // namespace jaxdirect::relational
