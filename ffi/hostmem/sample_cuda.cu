// neighbors[row, j] = indices[edge_ids[row, j]], for rows in the order that `positions` gives.
//
// [num_nodes + 1], [num_edges] x [count] -> [count, fanout]
//
// A group of kLanes lanes (4, 8, 16 or 32, the first that holds the fanout) takes one
// seed: lane i makes draws i, i + kLanes, ... and keeps their offsets in registers. The
// lanes read indptr[seed] and indptr[seed + 1] in one request. Repeated offsets are
// resolved draw by draw with a broadcast and a vote of the group. Then all neighbours of
// the seed are asked for at once, and written as one row. Beyond kMaxFanout offsets are
// kept in the row of edge_ids. Blocks start in order, so seeds that are visited in
// ascending order have few distinct pages in flight.
//
// Host reads for a seed: one 32-byte sector of indptr (two where the entries lie in
// different ones) and the sectors that the picks touch, at most
// min(fanout, the list's own): 4 or 5 of a list of 30 int32. Floor: link requests, about
// 515 M sectors/s on PCIe 5 x16, so at fanout 25 and mean degree 30 about 2 G edges/s,
// and 0.5 G edges/s from long lists. Before that comes address translation, 35 M random
// pages/s over 16 GB, two a seed.

#include <algorithm>

#include "common/cuda.h"
#include "hostmem/sample.h"

namespace jaxdirect::hostmem {
namespace {

constexpr int kThreads = 128;
constexpr int kWarp = 32;
constexpr int kMaxFanout = 256;

struct Task {
  SampleArgs args;
  const uint32_t* positions;  // null: as given
};

template <int kLanes>
struct Group {
  int lane;
  unsigned mask;  // the group's lanes in their warp

  __device__ Group() : lane(threadIdx.x % kLanes), mask(0xFFFFFFFFu >> (kWarp - kLanes)) {
    mask <<= threadIdx.x % kWarp - lane;
  }
  template <typename Value>
  __device__ Value from(int source, Value value) const {
    return __shfl_sync(mask, value, source, kLanes);
  }
  __device__ bool any(bool vote) const { return __any_sync(mask, vote); }
};

// Even lanes read where the seed's list starts, odd ones where it stops.
template <int kLanes>
__device__ int64_t read_bound(const Group<kLanes>& group, const SampleArgs& args, int64_t row) {
  const int64_t seed = args.seeds[row];
  if (seed < 0 || seed >= args.num_nodes) return 0;
  return args.indptr[seed + (group.lane & 1)];
}

template <int kLanes>
__device__ NeighborList join_bounds(const Group<kLanes>& group, const SampleArgs& args,
                                    int64_t bound) {
  const int64_t start = group.from(0, bound);
  return bounded_list(start, group.from(1, bound), args.num_edges);
}

// Replaces offsets that an earlier draw has; lane i holds draws i, i + kLanes, ...
template <int kLanes, int kChunks>
__device__ void resolve_repeats(const Group<kLanes>& group, uint32_t (&offsets)[kChunks],
                                uint32_t degree, int fanout) {
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    const int lanes = min(kLanes, fanout - chunk * kLanes);
    for (int turn = 0; turn < lanes; ++turn) {
      const uint32_t offset = group.from(turn, offsets[chunk]);
      bool taken = group.lane < turn && offsets[chunk] == offset;
#pragma unroll
      for (int before = 0; before < chunk; ++before) taken |= offsets[before] == offset;
      if (group.any(taken) && group.lane == turn) {
        offsets[chunk] = degree - fanout + chunk * kLanes + turn;
      }
    }
  }
}

template <int kLanes, int kChunks>
__global__ void __launch_bounds__(kThreads) sample_rows(const Task task) {
  const SampleArgs& args = task.args;
  const Group<kLanes> group;
  const int64_t visit = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kLanes;
  if (visit >= args.count) return;
  const int64_t row = task.positions ? int64_t{task.positions[visit]} : visit;
  const int fanout = static_cast<int>(args.fanout);
  const int64_t bound = read_bound(group, args, row);
  const PhiloxKey key = args.state[row];
  uint64_t draws[kChunks];  // made while the list's bounds are on their way
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    draws[chunk] = philox_draw(key, chunk * kLanes + group.lane);
  }
  const NeighborList list = join_bounds(group, args, bound);
  const int count = sample_count(list.degree, fanout, args.replace);
  const bool choose = list.degree > static_cast<uint32_t>(fanout) && !args.replace;

  uint32_t offsets[kChunks];
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    const uint32_t j = chunk * kLanes + group.lane;
    offsets[chunk] = j;
    if (args.replace) offsets[chunk] = bounded(draws[chunk], list.degree);
    if (choose) offsets[chunk] = bounded(draws[chunk], list.degree - fanout + j + 1);
  }
  if (choose) resolve_repeats(group, offsets, list.degree, fanout);

  int64_t neighbors[kChunks];
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    neighbors[chunk] = -1;
    if (chunk * kLanes + group.lane < count) {
      neighbors[chunk] = args.indices[list.start + offsets[chunk]];
    }
  }
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    const int j = chunk * kLanes + group.lane;
    if (j < fanout) {
      args.edge_ids.set(row * fanout + j, j < count ? list.start + offsets[chunk] : -1);
      args.neighbors.set(row * fanout + j, neighbors[chunk]);
    }
  }
  if (group.lane == 0) args.counts[row] = count;
}

// Any fanout: one warp a seed, which reads what it has taken from its row of edge_ids.
__global__ void __launch_bounds__(kThreads) sample_wide_rows(const Task task) {
  const SampleArgs& args = task.args;
  const Group<kWarp> group;
  const int64_t visit = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kWarp;
  if (visit >= args.count) return;
  const int64_t row = task.positions ? int64_t{task.positions[visit]} : visit;
  const NeighborList list = join_bounds(group, args, read_bound(group, args, row));
  const PhiloxKey key = args.state[row];
  const int64_t fanout = args.fanout;
  const int64_t count = sample_count(list.degree, fanout, args.replace);
  const bool choose = list.degree > fanout && !args.replace;
  const IndexList taken{args.edge_ids.data, args.edge_ids.is_64};

  for (int64_t first = 0; first < fanout; first += kWarp) {
    const int64_t j = first + group.lane;
    const auto last = static_cast<uint32_t>(list.degree - fanout + j);
    const uint64_t draw = philox_draw(key, static_cast<uint32_t>(j));
    auto offset = static_cast<uint32_t>(j);
    if (args.replace) offset = bounded(draw, list.degree);
    if (choose) {
      offset = bounded(draw, last + 1);
      bool repeated = false;  // this lane's draw, among the offsets of earlier steps
      for (int64_t k = 0; k < first; ++k) {
        repeated |= taken[row * fanout + k] == list.start + offset;
      }
      if (repeated) offset = last;
      const int lanes = static_cast<int>(min(int64_t{kWarp}, fanout - first));
      for (int turn = 0; turn < lanes; ++turn) {
        const uint32_t drawn = group.from(turn, offset);
        const bool same = group.any(group.lane < turn && offset == drawn);
        if (same && group.lane == turn) offset = last;
      }
    }
    if (j < fanout) {
      const int64_t edge = j < count ? list.start + offset : -1;
      args.edge_ids.set(row * fanout + j, edge);
      args.neighbors.set(row * fanout + j, j < count ? args.indices[edge] : -1);
    }
    __syncwarp();  // the next step reads what this one has written
  }
  if (group.lane == 0) args.counts[row] = static_cast<int32_t>(count);
}

template <int kLanes>
unsigned blocks_for(int64_t count) {
  return static_cast<unsigned>(ceil_div(count * kLanes, kThreads));
}

template <int kLanes, int kChunks>
void launch(cudaStream_t stream, const Task& task) {
  sample_rows<kLanes, kChunks><<<blocks_for<kLanes>(task.args.count), kThreads, 0, stream>>>(task);
}

void launch_for_fanout(cudaStream_t stream, const Task& task) {
  const int64_t fanout = task.args.fanout;
  if (fanout <= 4) return launch<4, 1>(stream, task);
  if (fanout <= 8) return launch<8, 1>(stream, task);
  if (fanout <= 16) return launch<16, 1>(stream, task);
  if (fanout <= 32) return launch<32, 1>(stream, task);
  if (fanout <= 64) return launch<32, 2>(stream, task);
  if (fanout <= 128) return launch<32, 4>(stream, task);
  if (fanout <= kMaxFanout) return launch<32, 8>(stream, task);
  sample_wide_rows<<<blocks_for<kWarp>(task.args.count), kThreads, 0, stream>>>(task);
}

// What a seed reads of a host graph: its entry of indptr and an average list.
int64_t row_bytes(const SampleArgs& args) {
  const int64_t index_bytes = args.indices.is_64 ? 8 : 4;
  return (args.indptr.is_64 ? 8 : 4) + args.num_edges * index_bytes / args.num_nodes;
}

}  // namespace

Status sample_neighbors(cudaStream_t stream, const SampleArgs& args) {
  if (args.count == 0) return Status::ok();
  if (args.count > INT32_MAX) {
    return Status::error("sample_neighbors: at most 2^31 - 1 seeds, got ", args.count,
                         "; split the call");
  }
  bool indptr_on_host = false;
  bool indices_on_host = false;
  JAXDIRECT_RETURN_IF_ERROR(
      is_host_memory("sample_neighbors", "indptr", args.indptr.data, &indptr_on_host));
  if (args.num_edges > 0) {
    JAXDIRECT_RETURN_IF_ERROR(
        is_host_memory("sample_neighbors", "indices", args.indices.data, &indices_on_host));
  }

  Task task{args, nullptr};
  if (args.num_nodes > 0) {
    const OrderPlan plan = plan_order(args.order, indptr_on_host || indices_on_host, args.num_nodes,
                                      row_bytes(args), args.count);
    const RowIds list{args.seeds, args.count, args.num_nodes};
    OrderedPositions ordered;
    JAXDIRECT_RETURN_IF_ERROR(order_positions(stream, plan, list, /*may_decline=*/false,
                                              args.workspace, args.workspace_bytes, &ordered));
    task.positions = ordered.positions;
  }
  launch_for_fanout(stream, task);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "sample_neighbors");
  return Status::ok();
}

}  // namespace jaxdirect::hostmem
