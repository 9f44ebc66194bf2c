// Every kernel over halo tiles, for fprop and dgrad: the planner would take but one of them.

#include "conv/halo_launch.h"
#include "conv/halo_problems.h"
#include "conv_checks.h"

namespace jaxdirect::conv::checks {
namespace {

template <typename T>
struct Pass {
  const char* name;
  bool transposed;
  const T* in;
  const std::vector<Exact>& want;
};

// That kernel of each of dgrad's phases, or its last where it has fewer.
Status launch_kernels(cudaStream_t stream, HaloCall call, const std::vector<HaloProblem>& problems,
                      int number) {
  for (const HaloProblem& problem : problems) {
    call.problem = problem;
    const int count = count_halo_kernels(call);
    JAXDIRECT_RETURN_IF_ERROR(launch_halo_kernel(stream, call, std::min(number, count - 1)));
  }
  return Status::ok();
}

template <typename T>
void check_pass(Launcher& launcher, const Shape& shape, FloatType type, Multiplicand multiplicand,
                const T* filter, const Pass<T>& pass) {
  const auto problems =
      pass.transposed ? dgrad_problems(shape) : std::vector<HaloProblem>{fprop_problem(shape)};
  HaloCall call;
  call.multiplicand = multiplicand;
  call.in = pass.in;
  call.form = type == FloatType::kF32 ? FilterForm::kPacked
              : pass.transposed       ? FilterForm::kDepthMajor
                                      : FilterForm::kColumnMajor;
  const int64_t packed_bytes =
      type != FloatType::kF32
          ? 0
          : packed_filter_bytes(multiplicand, shape.filter_height * shape.filter_width,
                                pass.transposed ? shape.out_channels : shape.channels,
                                pass.transposed ? shape.channels : shape.out_channels);
  int kernels = 0;
  for (const HaloProblem& problem : problems) {
    call.problem = problem;
    kernels = std::max(kernels, count_halo_kernels(call));
  }
  expect(kernels >= 2, pass.name, join("few kernels take ", describe(shape, type)));
  const double loss = type == FloatType::kF32 ? 0x1p14 : 0;
  for (int number = 0; number < kernels; ++number) {
    const auto count = static_cast<int64_t>(pass.want.size());
    const auto got =
        run<T, uint8_t>(launcher, pass.name, count, packed_bytes,
                        [&](cudaStream_t stream, T* out, uint8_t* packed) {
                          call.out = out;
                          call.filter = filter;
                          if (type == FloatType::kF32) {
                            call.filter = packed;
                            JAXDIRECT_RETURN_IF_ERROR(pack_filter(
                                stream, multiplicand, reinterpret_cast<const float*>(filter),
                                shape.filter_height * shape.filter_width, shape.channels,
                                shape.out_channels, pass.transposed, packed));
                          }
                          return launch_kernels(stream, call, problems, number);
                        })
            .first;
    for (int64_t i = 0; i < count; ++i) {
      if (is_close(got[i], pass.want[i], loss)) continue;
      expect(false, pass.name, join("kernel ", number, ", value ", i, ": ", describe(shape, type)));
      break;
    }
  }
}

template <typename T>
void check_shape(Launcher& launcher, const Shape& shape, FloatType type,
                 Multiplicand multiplicand) {
  const auto x = random_values<T>(shape.x_size()), filter = random_values<T>(shape.filter_size()),
             y = random_values<T>(shape.y_size());
  std::vector<Exact> want_x(x.size()), want_y(y.size());
  for_each_term(shape, [&](int64_t i, int64_t j, int64_t k) {
    want_x[i].add(widen(y[k]), widen(filter[j]));
    want_y[k].add(widen(x[i]), widen(filter[j]));
  });
  Buffer<T> x_in(x), filter_in(filter), y_in(y);
  const Pass<T> passes[] = {{"halo fprop", false, x_in.data(), want_y},
                            {"halo dgrad", true, y_in.data(), want_x}};
  for (const Pass<T>& pass : passes) {
    check_pass<T>(launcher, shape, type, multiplicand, filter_in.data(), pass);
  }
}

}  // namespace

void check_halo_kernels(Launcher& launcher, bool quick) {
  // Tiles of many images and of parts of one, tails of pixels, channels and half chunks, strides;
  // several tiles for each thread block.
  const Shape shapes[] = {
      square_shape(3, 11, 64, 64, 3),       square_shape(9, 6, 96, 136, 3, 1, 1),
      square_shape(18, 5, 40, 72, 2),       square_shape(2, 19, 72, 96, 3, 1, 1, 2),
      square_shape(2, 13, 64, 64, 3, 2, 1), square_shape(1, 37, 32, 64, 5, 1, 2),
      square_shape(1200, 8, 8, 96, 1),      square_shape(600, 10, 72, 8, 3),
  };
  for (const Shape& shape : shapes) {
    check_shape<BFloat16>(launcher, shape, FloatType::kBF16, Multiplicand::kBF16);
    check_shape<float>(launcher, shape, FloatType::kF32, Multiplicand::kTF32);
    if (quick) return;
    check_shape<Half>(launcher, shape, FloatType::kF16, Multiplicand::kF16);
    check_shape<float>(launcher, shape, FloatType::kF32, Multiplicand::kSplitFloat32);
  }
}

}  // namespace jaxdirect::conv::checks
