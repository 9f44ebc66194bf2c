// Groups positions by the high bits of their ids: a counting sort by one cluster.
//
// [count] ids -> [count] positions, count <= 2^19
//
// Each of kBlocks blocks takes every kBlocks-th run of kThreads ids, and counts them by
// bucket in its shared memory; the count an id finds is its rank. Each block owns a slice
// of the buckets, and turns their counts in all blocks into starting places. Last, every id writes
// its position to the starting place of its bucket in its block, plus its rank. Ranks depend on
// timing, and so does the order within a bucket; what is read and written where does not.
//
// Bytes: ids read once, positions written once. Floor: launch latency, about 2 us.
// Measured on an H200: 8 us for 10^4 ids, 17 us for 10^5, where a radix sort, seven
// launches, takes 32 and 36 us. From 10^6 on that one is faster.

#include <cooperative_groups.h>

#include "common/cuda.h"
#include "hostmem/order.cuh"
#include "hostmem/order.h"

namespace jaxdirect::hostmem {
namespace {

namespace cg = cooperative_groups;

constexpr int kBlocks = 16;
constexpr int kThreads = 512;
constexpr int kWarp = 32;
constexpr int kWarps = kThreads / kWarp;
constexpr int kItems = static_cast<int>(kMostBucketIds / (kBlocks * kThreads));  // of a thread
static_assert(kItems * kThreads <= 1 << (32 - kMostBucketBits), "a rank and a bucket share a word");

struct Buckets {
  int shift;  // of an id
  int used;   // buckets that ids can fall into
  int owned;  // of which each block owns so many
};

// The sum over the threads below this one, and over all.
[[maybe_unused]] __device__ uint32_t exclusive_sum(uint32_t value, uint32_t* total) {
  __shared__ uint32_t warp_totals[kWarps];
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  uint32_t sum = value;
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const uint32_t below = __shfl_up_sync(0xFFFFFFFFu, sum, distance);
    if (lane >= distance) sum += below;
  }
  if (lane == kWarp - 1) warp_totals[warp] = sum;
  __syncthreads();
  uint32_t before = 0;
  *total = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) before += warp_totals[w];
    *total += warp_totals[w];
  }
  __syncthreads();  // the next call writes again
  return before + sum - value;
}

__global__ void __launch_bounds__(kThreads)
    group_positions(const RowIds list, const Buckets buckets, int sampled_reads,
                    uint32_t* positions) {
#if __CUDA_ARCH__ >= 900                // others never launch it
  extern __shared__ uint32_t counts[];  // ids of a bucket; then where the block's ids of it start
  __shared__ uint32_t block_totals[kBlocks];  // ids in the slice that each block owns
  const auto cluster = cg::this_cluster();
  const int block = static_cast<int>(cluster.block_rank());
  launch_dependents();
  if (sampled_reads > 0 && !worth_ordering(list, sampled_reads)) return;

  for (int k = threadIdx.x; k < kBlocks * buckets.owned; k += kThreads) counts[k] = 0;
  __syncthreads();
  uint32_t ranked[kItems];  // rank above bucket
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const int64_t i = (int64_t{item} * kBlocks + block) * kThreads + threadIdx.x;
    if (i >= list.count) break;
    const int64_t id = list.ids[i];
    uint32_t bucket = __umulhi(static_cast<uint32_t>(i) * 2654435769u, buckets.used);
    if (list.is_row(id) && list.slot_of(id) < 0) {
      bucket = static_cast<uint32_t>(id >> buckets.shift);
    }
    ranked[item] = atomicAdd(&counts[bucket], 1u) << kMostBucketBits | bucket;
  }
  cluster.sync();

  constexpr int kRounds = (1 << kMostBucketBits) / (kBlocks * kThreads);
  uint32_t* const slice = counts + block * buckets.owned;
  uint32_t starts[kRounds];
  uint32_t slice_total = 0;
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int k = round * kThreads + threadIdx.x;
    uint32_t in_bucket = 0;
    if (k < buckets.owned) {
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) in_bucket += cluster.map_shared_rank(slice, b)[k];
    }
    uint32_t in_round = 0;
    starts[round] = slice_total + exclusive_sum(in_bucket, &in_round);
    slice_total += in_round;
  }
  if (threadIdx.x < kBlocks) {
    cluster.map_shared_rank(block_totals, threadIdx.x)[block] = slice_total;
  }
  cluster.sync();
  uint32_t slice_start = 0;
  for (int b = 0; b < block; ++b) slice_start += block_totals[b];
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int k = round * kThreads + threadIdx.x;
    if (k >= buckets.owned) break;
    uint32_t start = slice_start + starts[round];
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      uint32_t* count = &cluster.map_shared_rank(slice, b)[k];
      const uint32_t ids_there = *count;
      *count = start;
      start += ids_there;
    }
  }
  cluster.sync();

#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const int64_t i = (int64_t{item} * kBlocks + block) * kThreads + threadIdx.x;
    if (i >= list.count) break;
    const uint32_t bucket = ranked[item] % (1u << kMostBucketBits);
    positions[counts[bucket] + (ranked[item] >> kMostBucketBits)] = static_cast<uint32_t>(i);
  }
#endif
}

// Whether the current device can run the kernel, which asks for more than the eight
// blocks that every cluster may have, and at most 128 KiB of shared memory a block.
Status prepare(const cudaLaunchConfig_t& config, bool* can_run) {
  *can_run = false;
  int device = 0;
  int major = 0;
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device), "order");
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "order");
  if (major < 9) return Status::ok();
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaFuncSetAttribute(group_positions, cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
      "order");
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaFuncSetAttribute(group_positions, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           sizeof(uint32_t) << kMostBucketBits),
      "order");
  int clusters = 0;  // none on a slice of a GPU that has too few multiprocessors
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaOccupancyMaxActiveClusters(&clusters, group_positions, &config), "order");
  *can_run = clusters > 0;
  return Status::ok();
}

}  // namespace

Status order_by_buckets(cudaStream_t stream, const OrderPlan& plan, const RowIds& list,
                        int sampled_reads, uint32_t* positions, bool* done) {
  Buckets buckets{};
  buckets.shift = plan.low_bit;
  buckets.used = static_cast<int>((list.num_rows - 1) >> plan.low_bit) + 1;
  buckets.owned = static_cast<int>(ceil_div(buckets.used, kBlocks));
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = kBlocks;
  attribute.val.clusterDim.y = 1;
  attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = kBlocks;
  config.blockDim = kThreads;
  config.dynamicSmemBytes = sizeof(uint32_t) * kBlocks * buckets.owned;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  JAXDIRECT_RETURN_IF_ERROR(prepare(config, done));
  if (!*done) return Status::ok();
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaLaunchKernelEx(&config, group_positions, list, buckets, sampled_reads, positions),
      "order");
  return Status::ok();
}

}  // namespace jaxdirect::hostmem
