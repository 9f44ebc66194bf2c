// Windows put in order in memory for one instruction set; see explicit.h and each_target.h.
// No include guard.

#include "conv/windows_target.h"

namespace jaxdirect::conv::JAXDIRECT_TARGET {

// `to` gets the windows of all rows, a row every row_values.
void order_windows(const Executor& executor, const Product& product, int64_t row_values,
                   float* to) {
  const int64_t rows = product.rows();
  const int64_t grain = std::max<int64_t>(rows / (16 * executor.num_threads), 1);
  parallel_for(executor, rows, grain, [&](int64_t begin, int64_t end) {
    WindowOrder<float> order(product);
    for (int64_t row = begin; row < end; ++row) {
      order({row, row + 1, 0, product.w.windows}, 0, product.channels, to + row * row_values);
    }
  });
}

}  // namespace jaxdirect::conv::JAXDIRECT_TARGET
