#include "relational/attention.h"
#include "relational/cpu.h"

#define JAXDIRECT_TARGET_CODE "relational/attention_backward_target.h"
#include "common/each_target.h"

namespace jaxdirect::relational {

Status attention_backward(const Executor& executor, const AttentionBackwardArgs& args) {
  advise_huge_pages(args.score_grad, args.lists.num_entries * args.heads * int64_t{sizeof(float)});
  if (args.num_slots == 0 || args.width == 0) return Status::ok();
  advise_huge_pages(args.rows_grad, args.num_slots * args.width * size_of(args.type));
  JAXDIRECT_FOR_THIS_CPU(attention_backward(executor, args));
  return Status::ok();
}

}  // namespace jaxdirect::relational
