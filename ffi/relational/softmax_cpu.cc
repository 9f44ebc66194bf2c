#include "relational/cpu.h"
#include "relational/softmax.h"

#define JAXDIRECT_TARGET_CODE "relational/softmax_target.h"
#include "common/each_target.h"

namespace jaxdirect::relational {
namespace {

// Padding entries belong to no row.
void zero_result(const Executor& executor, const Lists& lists, int64_t heads, FloatType type,
                 void* out) {
  const int64_t bytes = lists.num_entries * heads * size_of(type);
  advise_huge_pages(out, bytes);
  fill_zero(executor, out, bytes);
}

}  // namespace

Status softmax(const Executor& executor, const SoftmaxArgs& args) {
  if (args.lists.num_entries == 0 || args.heads == 0) return Status::ok();
  zero_result(executor, args.lists, args.heads, args.type, args.out);
  JAXDIRECT_FOR_THIS_CPU(softmax(executor, args));
  return Status::ok();
}

Status softmax_backward(const Executor& executor, const SoftmaxBackwardArgs& args) {
  if (args.lists.num_entries == 0 || args.heads == 0) return Status::ok();
  zero_result(executor, args.lists, args.heads, args.type, args.grad);
  JAXDIRECT_FOR_THIS_CPU(softmax_backward(executor, args));
  return Status::ok();
}

}  // namespace jaxdirect::relational
