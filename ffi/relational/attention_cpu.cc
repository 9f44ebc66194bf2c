#include "relational/attention.h"
#include "relational/cpu.h"

#define JAXDIRECT_TARGET_CODE "relational/attention_target.h"
#include "common/each_target.h"

namespace jaxdirect::relational {

Status attention(const Executor& executor, const AttentionArgs& args) {
  if (args.lists.num_rows == 0 || args.columns == 0) return Status::ok();
  advise_huge_pages(args.out, args.lists.num_rows * args.columns * size_of(args.type));
  JAXDIRECT_FOR_THIS_CPU(attention(executor, args));
  return Status::ok();
}

}  // namespace jaxdirect::relational
