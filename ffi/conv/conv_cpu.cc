#include "conv/conv.h"
#include "conv/cpu.h"

#define JAXDIRECT_TARGET_CODE "conv/product_target.h"
#include "common/each_target.h"

namespace jaxdirect::conv {

void multiply(const Executor& executor, const Product& product) {
  JAXDIRECT_FOR_THIS_CPU(multiply(executor, product));
}

namespace {

template <typename T>
bool any_nan(const T* values, int64_t count) {
  bool found = false;
  for (int64_t i = 0; i < count; ++i) {
    const auto value = static_cast<float>(values[i]);
    found |= value != value;
  }
  return found;
}

bool has_nan(const void* values, int64_t count, FloatType type) {
  switch (type) {
    case FloatType::kBF16:
      return any_nan(static_cast<const BFloat16*>(values), count);
    case FloatType::kF16:
      return any_nan(static_cast<const Half*>(values), count);
    default:
      return any_nan(static_cast<const float*>(values), count);
  }
}

// products(group, join) of all groups, of which the joined ones compute several results from one
// window. These multiply zeros by what only their neighbours are to read, and of infinities that
// makes NaN: where there is one, each result is computed from its own window.
template <typename Products>
void multiply_all(const Executor& executor, int64_t groups, const Products& products,
                  const void* result, int64_t count, FloatType type) {
  bool joined = false;
  for (int64_t group = 0; group < groups; ++group) {
    for (Product product : products(group, /*join=*/true)) {
      fill_vectors(&product);
      joined |= product.phases() > 1;
      multiply(executor, product);
    }
  }
  if (!joined || !has_nan(result, count, type)) return;
  for (int64_t group = 0; group < groups; ++group) {
    for (const Product& product : products(group, /*join=*/false)) multiply(executor, product);
  }
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
    const auto products = [&](int64_t group, bool) {
      return std::vector{fprop_product(args, group)};
    };
    multiply_all(context, shape.groups, products, args.y, shape.y_size(), args.type);
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
    if (!dgrad_products(args, 0, /*join=*/true).cover_all) {
      std::memset(args.x, 0, static_cast<size_t>(bytes));
    }
    const auto products = [&](int64_t group, bool join) {
      return dgrad_products(args, group, join).products;
    };
    multiply_all(context, shape.groups, products, args.x, shape.x_size(), args.type);
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
