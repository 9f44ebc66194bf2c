#include <algorithm>

#include "weighted_sum.h"

namespace example {

jaxdirect::Status weighted_sum(Context context, const WeightedSumArgs& args) {
  const auto rows = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* out = args.out + i * args.dim;
      std::fill(out, out + args.dim, 0.0f);
      for (int64_t j = i * args.picks; j < (i + 1) * args.picks; ++j) {
        const int64_t id = args.ids[j];
        if (id < 0 || id >= args.num_rows) continue;
        const float* row = args.table + id * args.dim;
        for (int64_t d = 0; d < args.dim; ++d) out[d] += args.weights[j] * row[d];
      }
    }
  };
  jaxdirect::parallel_for(context, args.batch, /*grain=*/64, rows);
  return jaxdirect::Status::ok();
}

}  // namespace example
