// The order in which a list of rows is read: buckets for short lists, else a radix sort of
// (id, position) by CUB on as many high bits as the plan names.

#include <algorithm>
#include <cub/device/device_radix_sort.cuh>

#include "common/cuda.h"
#include "hostmem/order.cuh"
#include "hostmem/order.h"

namespace jaxdirect::hostmem {
namespace {

constexpr int kThreads = 256;

// keys[i] = the id without its lowest `drop` bits. An id that reads nothing counts as
// num_rows, or, spread, as the row at its place in the list.
__global__ void make_keys(const RowIds list, bool spread, int drop, uint32_t* keys,
                          uint32_t* positions) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= list.count) return;
  int64_t id = list.ids[i];
  if (!list.is_row(id)) id = list.num_rows;
  if (spread && (id == list.num_rows || list.slot_of(id) >= 0)) {
    const double place = static_cast<double>(i) / static_cast<double>(list.count);
    id = static_cast<int64_t>(place * static_cast<double>(list.num_rows));
  }
  keys[i] = static_cast<uint32_t>(id >> drop);
  positions[i] = static_cast<uint32_t>(i);
}

int64_t round_up(int64_t bytes) { return ceil_div(bytes, 256) * 256; }

Status radix_sort(cudaStream_t stream, const OrderPlan& plan, const RowIds& list, void* workspace,
                  int64_t workspace_bytes, const uint32_t** positions) {
  const int64_t array_bytes = round_up(list.count * int64_t{sizeof(uint32_t)});
  auto* bytes = static_cast<char*>(workspace);
  cub::DoubleBuffer<uint32_t> keys(reinterpret_cast<uint32_t*>(bytes),
                                   reinterpret_cast<uint32_t*>(bytes + array_bytes));
  cub::DoubleBuffer<uint32_t> values(reinterpret_cast<uint32_t*>(bytes + 2 * array_bytes),
                                     reinterpret_cast<uint32_t*>(bytes + 3 * array_bytes));

  const int drop = std::max(0, plan.high_bit - 32);
  const int begin_bit = plan.low_bit - drop;
  const int end_bit = plan.high_bit - drop;
  const int count = static_cast<int>(list.count);
  size_t scratch_bytes = 0;
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cub::DeviceRadixSort::SortPairs(nullptr, scratch_bytes, keys, values, count, begin_bit,
                                      end_bit, stream),
      "order");
  const int64_t needed = 4 * array_bytes + static_cast<int64_t>(scratch_bytes);
  if (needed > workspace_bytes) {
    return Status::error("order: workspace must have ", needed, " bytes for ", count, " ids, got ",
                         workspace_bytes);
  }

  const auto blocks = static_cast<unsigned>(ceil_div(list.count, kThreads));
  make_keys<<<blocks, kThreads, 0, stream>>>(list, plan.spread_others, drop, keys.Current(),
                                             values.Current());
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "order");
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cub::DeviceRadixSort::SortPairs(bytes + 4 * array_bytes, scratch_bytes, keys, values, count,
                                      begin_bit, end_bit, stream),
      "order");
  *positions = values.Current();
  return Status::ok();
}

}  // namespace

Status order_positions(cudaStream_t stream, const OrderPlan& plan, const RowIds& list,
                       bool may_decline, void* workspace, int64_t workspace_bytes,
                       OrderedPositions* ordered) {
  *ordered = {};
  if (plan.method == OrderPlan::Method::kGiven) return Status::ok();
  if (plan.method == OrderPlan::Method::kBuckets) {
    if (workspace_bytes < list.count * int64_t{sizeof(uint32_t)}) {
      return Status::error("order: workspace must have ", list.count * int64_t{sizeof(uint32_t)},
                           " bytes for ", list.count, " ids, got ", workspace_bytes);
    }
    const int sampled_reads =
        may_decline ? static_cast<int>(ceil_div(kOrderSamples * plan.min_reads, list.count)) : 0;
    auto* positions = static_cast<uint32_t*>(workspace);
    bool done = false;
    JAXDIRECT_RETURN_IF_ERROR(
        order_by_buckets(stream, plan, list, sampled_reads, positions, &done));
    if (done) {
      *ordered = {positions, sampled_reads};
      return Status::ok();
    }
  }
  return radix_sort(stream, plan, list, workspace, workspace_bytes, &ordered->positions);
}

}  // namespace jaxdirect::hostmem
