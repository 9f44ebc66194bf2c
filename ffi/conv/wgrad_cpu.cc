#include "conv/conv.h"
#include "conv/cpu.h"

#define JAXDIRECT_TARGET_CODE "conv/wgrad_target.h"
#include "common/each_target.h"

namespace jaxdirect::conv {

Status wgrad(Context context, const Args& args) {
  const Shape& shape = args.shape;
  const int64_t bytes = shape.filter_size() * size_of(args.type);
  if (bytes == 0) return Status::ok();
  if (shape.y_size() == 0 || shape.x_size() == 0) {
    std::memset(args.filter, 0, static_cast<size_t>(bytes));
  } else if (is_per_channel(shape)) {
    depthwise_wgrad(context, args);
  } else {
    for (int64_t group = 0; group < shape.groups; ++group) {
      const Product product = fprop_product(args, group);
      JAXDIRECT_FOR_THIS_CPU(wgrad(context, product, const_cast<void*>(product.filter)));
    }
  }
  return Status::ok();
}

}  // namespace jaxdirect::conv
