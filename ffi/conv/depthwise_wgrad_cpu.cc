#include "conv/cpu.h"

#define JAXDIRECT_TARGET_CODE "conv/depthwise_wgrad_target.h"
#include "common/each_target.h"

namespace jaxdirect::conv {

void depthwise_wgrad(const Executor& executor, const Args& args) {
  const Shape& shape = args.shape;
  const Product product = fprop_product(args, 0);
  JAXDIRECT_FOR_THIS_CPU(
      depthwise_wgrad(executor, product, shape.channels, shape.group_out_channels(), args.filter));
}

}  // namespace jaxdirect::conv
