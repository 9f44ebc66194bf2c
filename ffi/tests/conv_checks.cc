#include "conv_checks.h"

#include <cmath>
#include <string_view>

namespace jaxdirect::conv::checks {
namespace {

// Tensor cores round float32 to 11 bits unless told otherwise.
double product_loss(FloatType type, Precision precision) {
#ifdef JAXDIRECT_CUDA_MODULE
  if (type == FloatType::kF32) return precision == Precision::kHighest ? 64 : 0x1p14;
#endif
  (void)type;
  (void)precision;
  return 0;
}

// How far a float32 result may be from the exact one, both as vectors.
double relative_bound(Precision precision, bool wgrad) {
#ifdef JAXDIRECT_CUDA_MODULE
  if (precision == Precision::kDefault) return wgrad ? 5e-5 : 1e-3;
#endif
  (void)precision;
  (void)wgrad;
  return 1e-6;
}

template <typename T>
std::vector<T> draw(int64_t count, Values kind) {
  if (kind == Values::kShort) return random_values<T>(count);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> positive(0.5, 1.5);
  std::vector<T> values(count);
  for (T& value : values) {
    value = narrow<T>(kind == Values::kNormal ? normal(random_bits) : positive(random_bits));
  }
  return values;
}

template <typename T>
struct ConvData {
  ConvData(const Shape& shape, Values kind)
      : shape(shape),
        x(draw<T>(shape.x_size(), kind)),
        filter(draw<T>(shape.filter_size(), kind)),
        y(draw<T>(shape.y_size(), kind)) {}

  Shape shape;
  std::vector<T> x, filter, y;
};

// Compares one pass; `data` holds the operands and, in its result's place, anything.
template <typename T, typename Launch>
void check_pass(Launcher& launcher, const char* what, FloatType type, const ConvCase& is,
                const std::vector<Exact>& want, int64_t workspace_bytes, const Launch& launch) {
  const auto count = static_cast<int64_t>(want.size());
  const auto got = run<T, uint8_t>(launcher, what, count, workspace_bytes, launch).first;
  for (int64_t i = 0; i < count; ++i) {
    if (is_close(got[i], want[i], product_loss(type, is.precision))) continue;
    return expect(false, what, join("value ", i, ": ", describe(is.shape, type)));
  }
  if (type != FloatType::kF32 || is.values == Values::kShort) return;
  double error = 0, norm = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double off = widen(got[i]) - want[i].value;
    error += off * off;
    norm += want[i].value * want[i].value;
  }
  const double bound = relative_bound(is.precision, std::string_view(what) == "wgrad");
  expect(std::sqrt(error) <= bound * std::sqrt(norm), what,
         join("relative error ", std::sqrt(error / norm), ": ", describe(is.shape, type)));
}

template <typename T>
void check_type(Launcher& launcher, FloatType type, const ConvCase& is) {
  const Shape& shape = is.shape;
  const ConvData<T> data(shape, is.values);
  std::vector<Exact> x(data.x.size()), filter(data.filter.size()), y(data.y.size());
  for_each_term(shape, [&](int64_t i, int64_t j, int64_t k) {
    x[i].add(widen(data.y[k]), widen(data.filter[j]));
    filter[j].add(widen(data.x[i]), widen(data.y[k]));
    y[k].add(widen(data.x[i]), widen(data.filter[j]));
  });
  Buffer<T> x_in(data.x), filter_in(data.filter), y_in(data.y);
  Args args;
  args.shape = shape;
  args.type = type;
  args.precision = is.precision;
  args.x = x_in.data();
  args.filter = filter_in.data();
  args.y = y_in.data();
  const auto check = [&](const char* what, const Plan& plan, const std::vector<Exact>& want,
                         void* Args::* result, Status (*launch)(Context, const Args&)) {
    if (!plan.covered) return;
    check_pass<T>(launcher, what, type, is, want, plan.workspace_bytes,
                  [&](Context context, T* out, uint8_t* workspace) {
                    Args with = args;
                    with.*result = out;
                    with.workspace = workspace;
                    with.workspace_bytes = plan.workspace_bytes;
                    return launch(context, with);
                  });
  };
  const auto check_explicit = [&](const char* what, Variant variant) {
    const Plan plan = plan_explicit(shape, type);
    if (!plan.covered) return;
    ConvCase exact = is;
    exact.precision = Precision::kHighest;
    check_pass<T>(launcher, what, type, exact, y, plan.workspace_bytes,
                  [&](Context context, T* out, uint8_t* workspace) {
                    Args with = args;
                    with.y = out;
                    with.workspace = workspace;
                    with.workspace_bytes = plan.workspace_bytes;
                    return explicit_fprop(context, with, variant);
                  });
  };
  check_explicit("explicit", Variant::kFull);
#ifdef JAXDIRECT_CUDA_MODULE
  check_explicit("explicit without prefetch", Variant::kNoPrefetch);
  check_explicit("explicit without vectors", Variant::kNoVectors);
  check_explicit("explicit without micro-kernel", Variant::kNoMicroKernel);
  check_explicit("explicit without double buffer", Variant::kNoDoubleBuffer);
  check_explicit("explicit base", Variant::kBase);
#endif
  check("fprop", plan_fprop(shape, type, is.precision), y, &Args::y, fprop);
  check("dgrad", plan_dgrad(shape, type, is.precision), x, &Args::x, dgrad);
  check("wgrad", plan_wgrad(shape, type, is.precision), filter, &Args::filter, wgrad);
}

}  // namespace

std::string describe(const Shape& s, FloatType type) {
  return join("x [", s.batch, ", ", s.height, ", ", s.width, ", ", s.channels, "], filter [",
              s.filter_height, ", ", s.filter_width, ", ", s.group_channels(), ", ", s.out_channels,
              "], y ", s.out_height, " x ", s.out_width, ", stride ", s.stride_h, " ", s.stride_w,
              ", pad ", s.pad_h, " ", s.pad_w, ", dilation ", s.dilation_h, " ", s.dilation_w,
              ", groups ", s.groups, ", type ", static_cast<int>(type));
}

void check_case(Launcher& launcher, FloatType type, const ConvCase& is) {
  switch (type) {
    case FloatType::kF16:
      return check_type<Half>(launcher, type, is);
    case FloatType::kBF16:
      return check_type<BFloat16>(launcher, type, is);
    default:
      return check_type<float>(launcher, type, is);
  }
}

}  // namespace jaxdirect::conv::checks
