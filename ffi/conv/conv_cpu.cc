#include "conv/conv.h"
#include "conv/cpu.h"

#define JAXDIRECT_TARGET_CODE "conv/product_target.h"
#include "common/each_target.h"

namespace jaxdirect::conv {

void multiply(const Executor& executor, const Product& product) {
  JAXDIRECT_FOR_THIS_CPU(multiply(executor, product));
}

namespace {

void multiply_all(const Executor& executor, Product product) {
  fill_vectors(&product);
  multiply(executor, product);
}

}  // namespace

Status fprop(Context context, const Args& args) {
  const Shape& shape = args.shape;
  const int64_t bytes = shape.y_size() * size_of(args.type);
  if (bytes == 0) return Status::ok();
  advise_huge_pages(args.y, bytes);
  if (shape.x_size() == 0 || shape.filter_size() == 0) {
    std::memset(args.y, 0, static_cast<size_t>(bytes));
  } else if (is_per_channel(shape)) {
    depthwise_fprop(context, args);
  } else {
    for (int64_t group = 0; group < shape.groups; ++group) {
      multiply_all(context, fprop_product(args, group));
    }
  }
  return Status::ok();
}

Status dgrad(Context context, const Args& args) {
  const Shape& shape = args.shape;
  const int64_t bytes = shape.x_size() * size_of(args.type);
  if (bytes == 0) return Status::ok();
  advise_huge_pages(args.x, bytes);
  if (shape.y_size() == 0 || shape.filter_size() == 0) {
    std::memset(args.x, 0, static_cast<size_t>(bytes));
  } else if (is_per_channel(shape)) {
    depthwise_dgrad(context, args);
  } else {
    for (int64_t group = 0; group < shape.groups; ++group) {
      const DgradProducts plan = dgrad_products(args, group, /*join=*/true);
      if (group == 0 && !plan.cover_all) std::memset(args.x, 0, static_cast<size_t>(bytes));
      for (const Product& product : plan.products) multiply_all(context, product);
    }
  }
  return Status::ok();
}

namespace {

Plan plan(const Shape& shape) {
  return {.covered = true, .kernel = is_per_channel(shape) ? "depthwise" : "im2win"};
}

}  // namespace

Plan plan_fprop(const Shape& shape, FloatType, Precision) { return plan(shape); }
Plan plan_dgrad(const Shape& shape, FloatType, Precision) { return plan(shape); }
Plan plan_wgrad(const Shape& shape, FloatType, Precision) { return plan(shape); }

}  // namespace jaxdirect::conv
