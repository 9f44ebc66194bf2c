// Depthwise convolution forward, and backward to x where the stride is 1: the same sum with the
// filter flipped. The kernels, their bytes and floors are in depthwise_sweep.cuh (usual filters)
// and depthwise_wide.cuh (all others); this file chooses.

#include <utility>

#include "conv/depthwise_sweep.cuh"
#include "conv/depthwise_wide.cuh"

namespace jaxdirect::conv {
namespace depthwise {
namespace {

using Launch = Status (*)(cudaStream_t, const Problem&);

struct Kernel {
  int rows, columns, ratio, count;  // taps, reduced stride, channels of a thread
  Launch launch;
};

template <typename T>
Status choose(cudaStream_t stream, Problem problem) {
  constexpr int kHalf = 8 / sizeof(T);
  constexpr int kFull = 16 / sizeof(T);
  constexpr int kAhead = sizeof(T) == 2 ? 2 : 1;  // rows that registers have room for
  // Taps, reduced stride, channels and columns of a thread, steps unrolled, blocks a processor.
  static constexpr Kernel kKernels[] = {
      {3, 1, 1, kFull, launch_sweep<T, 3, 1, 1, kFull, 1, 4, 4>},
      {3, 1, 2, kFull, launch_sweep<T, 3, 1, 2, kFull, 1, 2, 4>},
      {4, 1, 1, kFull, launch_sweep<T, 4, 1, 1, kFull, 1, 4, 4>},
      {4, 1, 2, kFull, launch_sweep<T, 4, 1, 2, kFull, 1, 2, 4>},
      {3, 3, 1, kHalf, launch_sweep<T, 3, 3, 1, kHalf, 4, 1, 3>},
      {3, 3, 2, kHalf, launch_sweep<T, 3, 3, 2, kHalf, 4, 1, 3>},
      {5, 5, 1, 2, launch_sweep<T, 5, 5, 1, 2, 4, 1, 3>},
      {5, 5, 2, 2, launch_sweep<T, 5, 5, 2, 2, 4, 1, 3>},
      {7, 7, 1, 2, launch_sweep<T, 7, 7, 1, 2, 4, kAhead, 2>},
      {7, 7, 2, 2, launch_sweep<T, 7, 7, 2, 2, 4, 1, 2>},
  };
  // A filter of one row runs down the columns.
  if (problem.rows.taps == 1) std::swap(problem.rows, problem.columns);
  const Axis& rows = problem.rows;
  const Axis& columns = problem.columns;
  const auto fits = [&](int count) {
    return takes_vectors(problem.channels, count, sizeof(T),
                         {problem.in, problem.filter, problem.out});
  };
  for (const Kernel& kernel : kKernels) {
    if (rows.taps == kernel.rows && columns.taps == kernel.columns && rows.ratio == kernel.ratio &&
        (columns.ratio == kernel.ratio || kernel.columns == 1) && fits(kernel.count)) {
      return kernel.launch(stream, problem);
    }
  }
  if (columns.taps == 1) std::swap(problem.rows, problem.columns);
  if (columns.ratio == 1) {
    return fits(2) ? launch_wide<T, 2, 14, 4>(stream, problem)
                   : launch_wide<T, 1, 8, 4>(stream, problem);
  }
  return fits(2) ? launch_wide<T, 2, 1, 1>(stream, problem)
                 : launch_wide<T, 1, 1, 1>(stream, problem);
}

}  // namespace

Status correlate(cudaStream_t stream, FloatType type, const Problem& problem) {
  if (problem.batch * problem.rows.out * problem.columns.out * problem.channels == 0) {
    return Status::ok();
  }
  return with_type(type, [&](auto zero) { return choose<decltype(zero)>(stream, problem); });
}

}  // namespace depthwise

Status depthwise_fprop(cudaStream_t stream, const Args& args) {
  const Shape& shape = args.shape;
  depthwise::Problem problem{};
  JAXDIRECT_RETURN_IF_ERROR(depthwise::make_problem(shape, &problem));
  problem.in = args.x;
  problem.filter = args.filter;
  problem.out = args.y;
  return depthwise::correlate(stream, args.type, problem);
}

}  // namespace jaxdirect::conv
