#include "relational/cpu.h"
#include "relational/sum.h"

#define JAXDIRECT_TARGET_CODE "relational/sum_target.h"
#include "common/each_target.h"

namespace jaxdirect::relational {

Status sum(const Executor& executor, const SumArgs& args) {
  if (args.columns == 0 || args.num_out == 0) return Status::ok();
  advise_huge_pages(args.out, args.num_out * args.columns * size_of(args.type));
  JAXDIRECT_FOR_THIS_CPU(sum(executor, args));
  return Status::ok();
}

Status dot(const Executor& executor, const DotArgs& args) {
  if (args.lists.num_entries == 0 || args.heads == 0) return Status::ok();
  // Padding entries belong to no row.
  const int64_t bytes = args.lists.num_entries * args.heads * int64_t{sizeof(float)};
  advise_huge_pages(args.out, bytes);
  fill_zero(executor, args.out, bytes);
  if (args.columns == 0) return Status::ok();
  JAXDIRECT_FOR_THIS_CPU(dot(executor, args));
  return Status::ok();
}

}  // namespace jaxdirect::relational
