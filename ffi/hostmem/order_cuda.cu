// Radix sort of (id, position) on as many high bits as the plan names.

#include <cub/device/device_radix_sort.cuh>

#include "common/cuda.h"
#include "hostmem/order.h"

namespace jaxdirect::hostmem {
namespace {

constexpr int kThreads = 256;

// keys[i] = the id without its lowest `drop` bits. An id that is no row counts as num_rows,
// or, spread, as the row at its place in the list.
__global__ void make_keys(const void* ids, bool ids_64, int64_t count, int64_t num_rows,
                          bool spread, int drop, uint32_t* keys, uint32_t* positions) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  int64_t id = ids_64 ? static_cast<const int64_t*>(ids)[i] : static_cast<const int32_t*>(ids)[i];
  if (id < 0 || id >= num_rows) {
    const double place = static_cast<double>(i) / static_cast<double>(count);
    id = spread ? static_cast<int64_t>(place * static_cast<double>(num_rows)) : num_rows;
  }
  keys[i] = static_cast<uint32_t>(id >> drop);
  positions[i] = static_cast<uint32_t>(i);
}

int64_t round_up(int64_t bytes) { return ceil_div(bytes, 256) * 256; }

}  // namespace

Status order_positions(cudaStream_t stream, const OrderPlan& plan, const void* ids, bool ids_64,
                       int64_t count, int64_t num_rows, void* workspace, int64_t workspace_bytes,
                       const uint32_t** positions) {
  const int64_t array_bytes = round_up(count * int64_t{sizeof(uint32_t)});
  auto* bytes = static_cast<char*>(workspace);
  cub::DoubleBuffer<uint32_t> keys(reinterpret_cast<uint32_t*>(bytes),
                                   reinterpret_cast<uint32_t*>(bytes + array_bytes));
  cub::DoubleBuffer<uint32_t> values(reinterpret_cast<uint32_t*>(bytes + 2 * array_bytes),
                                     reinterpret_cast<uint32_t*>(bytes + 3 * array_bytes));

  const int drop = plan.high_bit > 32 ? plan.high_bit - 32 : 0;
  const int begin_bit = plan.low_bit - drop;
  const int end_bit = plan.high_bit - drop;
  size_t scratch_bytes = 0;
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cub::DeviceRadixSort::SortPairs(nullptr, scratch_bytes, keys, values, static_cast<int>(count),
                                      begin_bit, end_bit, stream),
      "order");
  const int64_t needed = 4 * array_bytes + static_cast<int64_t>(scratch_bytes);
  if (needed > workspace_bytes) {
    return Status::error("order: workspace must have ", needed, " bytes for ", count, " ids, got ",
                         workspace_bytes);
  }

  const auto blocks = static_cast<unsigned>(ceil_div(count, kThreads));
  make_keys<<<blocks, kThreads, 0, stream>>>(ids, ids_64, count, num_rows, plan.spread_invalid,
                                             drop, keys.Current(), values.Current());
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "order");
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cub::DeviceRadixSort::SortPairs(bytes + 4 * array_bytes, scratch_bytes, keys, values,
                                      static_cast<int>(count), begin_bit, end_bit, stream),
      "order");
  *positions = values.Current();
  return Status::ok();
}

}  // namespace jaxdirect::hostmem
