// rows[p] = table[ids[p]], or cache[slots[ids[p]]], for p in the order that `positions` gives.
//
// [num_rows, row_bytes] (, [num_slots, row_bytes]) x [count] -> [count, row_bytes]
//
// A row is read as units of kLanes 16-byte chunks, aligned in the table's address
// space: a unit is at most one 128-byte line, and all its sectors are asked for by one
// instruction of one warp, so that a line crosses the link as one request. Chunks that
// lie across a row's end bring neighbouring bytes of the same sector along, which costs
// nothing. A block takes one tile of consecutive units, and blocks start in order, so
// few distinct pages are in flight when the ids are sorted.
//
// Host reads: the sectors that rows touch, count * row_bytes and up to 31 bytes at both
// ends. Floor: those bytes over the link (51 GB/s on PCIe 5 x16); rows of one or two
// sectors are bound by requests instead (about 515 M/s).

#include <algorithm>
#include <numeric>

#include "common/cuda.h"
#include "hostmem/gather.h"
#include "hostmem/order.cuh"

namespace jaxdirect::hostmem {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerSm = 5;    // rows read as given need the loads of all of them in flight
constexpr int kUnitsInFlight = 4;  // loads a thread issues before its first store
constexpr int kChunk = 16;
static_assert(kThreads >= kOrderSamples);

struct Rows {
  const char* begin;
  const char* end;
};

struct Task {
  Rows table;
  Rows cache;
  RowIds list;
  OrderedPositions order;
  char* rows;
  int64_t row_bytes;
  uint64_t fill[2];
  uint32_t units_per_row;
  int64_t num_units;
};

// Through L1: equal ids of a sorted list are read by one block at the same time, and
// all but the first of them find the line there, or on its way.
__device__ uint4 load_chunk(const char* address) {
  return __ldg(reinterpret_cast<const uint4*>(address));
}

// The chunk at either end of the rows may reach outside them: piece by piece.
template <int kGrain>
__device__ uint4 load_inside(const char* address, const Rows& rows) {
  uint32_t words[4] = {0, 0, 0, 0};
#pragma unroll
  for (int byte = 0; byte < kChunk; byte += kGrain) {
    if (address + byte < rows.begin || address + byte >= rows.end) continue;
    if constexpr (kGrain >= 4) {
#pragma unroll
      for (int word = 0; word < kGrain / 4; ++word) {
        words[byte / 4 + word] = reinterpret_cast<const uint32_t*>(address + byte)[word];
      }
    } else {
      uint32_t value = static_cast<unsigned char>(address[byte]);
      if constexpr (kGrain == 2) value = *reinterpret_cast<const uint16_t*>(address + byte);
      words[byte / 4] |= value << (8 * (byte % 4));
    }
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

// The fill pattern as it falls on 16 bytes of the output at `offset`.
__device__ uint4 fill_chunk(const uint64_t* fill, int64_t offset) {
  const int rotation = static_cast<int>(offset & (kChunk - 1));
  uint64_t low = fill[rotation >> 3];
  uint64_t high = fill[(rotation >> 3) ^ 1];
  const int shift = 8 * (rotation & 7);
  if (shift != 0) {
    const uint64_t rotated = (low >> shift) | (high << (64 - shift));
    high = (high >> shift) | (low << (64 - shift));
    low = rotated;
  }
  return make_uint4(static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32),
                    static_cast<uint32_t>(high), static_cast<uint32_t>(high >> 32));
}

// The bytes [first, last) of a chunk, in one register.
__device__ uint32_t pack_span(int first, int last) { return first | last << 8; }

// Stores a span of a chunk in pieces of kGrain bytes, to which both ends and the
// address are aligned.
template <int kGrain>
__device__ void store_piecewise(char* to, uint4 chunk, uint32_t span) {
  if constexpr (kGrain == 16) {
    if (span != 0) *reinterpret_cast<uint4*>(to) = chunk;
  } else {
    const int first = span & 0xFF;
    const int last = span >> 8;
    const uint32_t words[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
#pragma unroll
    for (int byte = 0; byte < kChunk; byte += kGrain) {
      if (byte < first || byte >= last) continue;
      const uint32_t word = words[byte / 4] >> (8 * (byte % 4));
      if constexpr (kGrain == 8) {
        *reinterpret_cast<uint2*>(to + byte) = make_uint2(word, words[byte / 4 + 1]);
      } else if constexpr (kGrain == 4) {
        *reinterpret_cast<uint32_t*>(to + byte) = word;
      } else if constexpr (kGrain == 2) {
        *reinterpret_cast<uint16_t*>(to + byte) = static_cast<uint16_t>(word);
      } else {
        to[byte] = static_cast<char>(word);
      }
    }
  }
}

// Whether rows are visited as task.order says; its positions are there after that.
__device__ bool visits_in_order(const Task& task) {
  if (task.order.positions == nullptr) return false;
  if (task.order.sampled_reads == 0) return true;
  if (!worth_ordering(task.list, task.order.sampled_reads)) return false;
  wait_for_predecessor();
  return true;
}

template <int kLanes, int kGrain>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm) gather_rows(const Task task) {
  constexpr int kUnitBytes = kLanes * kChunk;
  constexpr int kUnitsPerStep = kThreads / kLanes;
  constexpr int kUnitsPerTile = kUnitsPerStep * kUnitsInFlight;
  const int lane = threadIdx.x % kLanes;
  const bool in_order = visits_in_order(task);

  for (int64_t tile = blockIdx.x; tile * kUnitsPerTile < task.num_units; tile += gridDim.x) {
    uint4 chunks[kUnitsInFlight];
    uint32_t spans[kUnitsInFlight];   // what of it belongs to the row
    int64_t offsets[kUnitsInFlight];  // of the chunk in the output
#pragma unroll
    for (int step = 0; step < kUnitsInFlight; ++step) {
      const int64_t unit = tile * kUnitsPerTile + step * kUnitsPerStep + threadIdx.x / kLanes;
      spans[step] = 0;
      offsets[step] = 0;
      chunks[step] = make_uint4(0, 0, 0, 0);
      if (unit >= task.num_units) continue;
      const int64_t visit = task.num_units <= UINT32_MAX
                                ? int64_t{static_cast<uint32_t>(unit) / task.units_per_row}
                                : unit / task.units_per_row;
      const int64_t part = unit - visit * task.units_per_row;
      const int64_t position = in_order ? int64_t{task.order.positions[visit]} : visit;
      const int64_t id = task.list.ids[position];
      const bool valid = task.list.is_row(id);
      // A row to fill is laid out like row 0.
      const char* row_start = task.table.begin + (valid ? id : 0) * task.row_bytes;
      const Rows* source = &task.table;
      if (task.list.slots != nullptr && valid) {
        const int64_t slot = task.list.slot_of(id);
        if (slot >= 0) {
          source = &task.cache;
          row_start = task.cache.begin + slot * task.row_bytes;
        }
      }
      const auto start = reinterpret_cast<uintptr_t>(row_start);
      const char* address =
          row_start - static_cast<int64_t>(start % kUnitBytes) + part * kUnitBytes + lane * kChunk;
      const int64_t begin = row_start - address;
      const int64_t end = begin + task.row_bytes;
      if (begin >= kChunk || end <= 0) continue;
      spans[step] = pack_span(static_cast<int>(max(begin, int64_t{0})),
                              static_cast<int>(min(end, int64_t{kChunk})));
      offsets[step] = position * task.row_bytes - begin;
      if (!valid) {
        chunks[step] = fill_chunk(task.fill, offsets[step]);
      } else if (kGrain == kChunk ||
                 (address >= source->begin && address + kChunk <= source->end)) {
        chunks[step] = load_chunk(address);
      } else {
        chunks[step] = load_inside<kGrain>(address, *source);
      }
    }
#pragma unroll
    for (int step = 0; step < kUnitsInFlight; ++step) {
      store_piecewise<kGrain>(task.rows + offsets[step], chunks[step], spans[step]);
    }
  }
  // What follows in the stream waits for this kernel alone, and may take the workspace.
  if (task.order.sampled_reads > 0) wait_for_predecessor();
}

template <int kLanes, int kGrain>
cudaError_t launch(cudaStream_t stream, const Task& task, int64_t max_blocks) {
  constexpr int64_t kUnitsPerTile = int64_t{kThreads} / kLanes * kUnitsInFlight;
  int64_t blocks = std::min<int64_t>(ceil_div(task.num_units, kUnitsPerTile), INT32_MAX);
  if (max_blocks > 0) blocks = std::min(blocks, max_blocks);
  // Starts beside a kernel that may only find out that there is nothing to order.
  cudaLaunchAttribute beside{};
  beside.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  beside.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(blocks);
  config.blockDim = kThreads;
  config.stream = stream;
  config.attrs = &beside;
  config.numAttrs = task.order.sampled_reads > 0 ? 1 : 0;
  return cudaLaunchKernelEx(&config, gather_rows<kLanes, kGrain>, task);
}

template <int kLanes>
cudaError_t launch_for_grain(cudaStream_t stream, const Task& task, int64_t grain,
                             int64_t max_blocks) {
  switch (grain) {
    case 16:
      return launch<kLanes, 16>(stream, task, max_blocks);
    case 8:
      return launch<kLanes, 8>(stream, task, max_blocks);
    case 4:
      return launch<kLanes, 4>(stream, task, max_blocks);
    case 2:
      return launch<kLanes, 2>(stream, task, max_blocks);
    default:
      return launch<kLanes, 1>(stream, task, max_blocks);
  }
}

// The widest unit that a whole row fills exactly, else a 128-byte line of 8 lanes.
int choose_lanes(int64_t row_bytes, uintptr_t addresses) {
  const bool power_of_two = (row_bytes & (row_bytes - 1)) == 0;
  if (!power_of_two || row_bytes > 64 || addresses % row_bytes != 0) return 8;
  return static_cast<int>(std::max<int64_t>(1, row_bytes / kChunk));
}

// Rows start at every multiple of `step` in a unit, shifted by the address of the first;
// the one that starts latest spans the most units.
int64_t most_units_per_row(int64_t row_bytes, int64_t unit_bytes, const Rows& rows) {
  const int64_t step = std::gcd(row_bytes, unit_bytes);
  const auto shift = static_cast<int64_t>(reinterpret_cast<uintptr_t>(rows.begin) % step);
  return ceil_div(shift + unit_bytes - step + row_bytes, unit_bytes);
}

Rows rows_at(const std::byte* first, int64_t count, int64_t row_bytes) {
  const auto* begin = reinterpret_cast<const char*>(first);
  return {begin, begin + count * row_bytes};
}

}  // namespace

Status gather(cudaStream_t stream, const GatherArgs& args) {
  const RowIds& list = args.list;
  if (list.count == 0 || args.row_bytes == 0) return Status::ok();
  Task task{};
  task.table = rows_at(args.table, list.num_rows, args.row_bytes);
  task.cache = rows_at(args.cache, list.num_slots, args.row_bytes);
  task.list = list;
  task.rows = reinterpret_cast<char*>(args.rows);
  task.row_bytes = args.row_bytes;
  task.fill[0] = args.fill[0];
  task.fill[1] = args.fill[1];

  bool on_host = false;
  if (list.num_rows > 0) {
    JAXDIRECT_RETURN_IF_ERROR(is_host_memory("gather", "table", args.table, &on_host));
  }
  const OrderPlan plan = plan_order(args.order, on_host, list.num_rows, args.row_bytes, list.count);
  JAXDIRECT_RETURN_IF_ERROR(order_positions(stream, plan, list, args.order == Order::kAuto,
                                            args.workspace, args.workspace_bytes, &task.order));

  const auto sources =
      reinterpret_cast<uintptr_t>(args.table) | reinterpret_cast<uintptr_t>(args.cache);
  const int lanes = choose_lanes(args.row_bytes, sources);
  const int64_t unit_bytes = lanes * int64_t{kChunk};
  const int64_t units_per_row =
      std::max(most_units_per_row(args.row_bytes, unit_bytes, task.table),
               most_units_per_row(args.row_bytes, unit_bytes, task.cache));
  if (units_per_row > UINT32_MAX) {
    return Status::error("gather: a row must be smaller than 512 GiB, got ", args.row_bytes,
                         " bytes");
  }
  task.units_per_row = static_cast<uint32_t>(units_per_row);
  task.num_units = list.count * units_per_row;

  const auto alignment = static_cast<int64_t>(sources | reinterpret_cast<uintptr_t>(args.rows));
  const int64_t grain = std::gcd(std::gcd(args.row_bytes, int64_t{kChunk}), alignment);
  cudaError_t error = cudaSuccess;
  switch (lanes) {
    case 4:
      error = launch<4, 16>(stream, task, args.max_blocks);
      break;
    case 2:
      error = launch<2, 16>(stream, task, args.max_blocks);
      break;
    case 1:
      error = launch_for_grain<1>(stream, task, grain, args.max_blocks);
      break;
    default:
      error = launch_for_grain<8>(stream, task, grain, args.max_blocks);
      break;
  }
  JAXDIRECT_RETURN_IF_CUDA_ERROR(error, "gather");
  return Status::ok();
}

}  // namespace jaxdirect::hostmem
