#include "conv/cpu.h"

#define JAXDIRECT_TARGET_CODE "conv/depthwise_target.h"
#include "common/each_target.h"

namespace jaxdirect::conv {

void depthwise_fprop(const Executor& executor, const Args& args) {
  const Shape& shape = args.shape;
  const Product product = fprop_product(args, 0);
  JAXDIRECT_FOR_THIS_CPU(
      depthwise(executor, product, shape.channels, 1, shape.group_out_channels()));
}

void depthwise_dgrad(const Executor& executor, const Args& args) {
  const Shape& shape = args.shape;
  const DgradProducts plan = dgrad_products(args, 0, /*join=*/false);
  if (!plan.cover_all) {
    std::memset(args.x, 0, static_cast<size_t>(shape.x_size() * size_of(args.type)));
  }
  for (const Product& product : plan.products) {
    JAXDIRECT_FOR_THIS_CPU(
        depthwise(executor, product, shape.channels, shape.group_out_channels(), 1));
  }
}

}  // namespace jaxdirect::conv
