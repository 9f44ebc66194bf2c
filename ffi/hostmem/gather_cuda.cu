// rows[p] = table[ids[p]] for p in the order that `positions` gives.
//
// [num_rows, row_bytes] x [count] -> [count, row_bytes]
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

namespace jaxdirect::hostmem {
namespace {

constexpr int kThreads = 256;
constexpr int kUnitsInFlight = 4;  // loads a thread issues before its first store
constexpr int kChunk = 16;

struct Rows {
  const char* table;
  const char* table_end;
  int64_t num_rows;
  int64_t row_bytes;
  const void* ids;
  bool ids_64;
  const uint32_t* positions;  // null: as given
  char* rows;
  uint64_t fill[2];
  uint32_t units_per_row;
  int64_t num_units;
};

// Through L1: equal ids of a sorted list are read by one block at the same time, and
// all but the first of them find the line there, or on its way.
__device__ uint4 load_chunk(const char* address) {
  return __ldg(reinterpret_cast<const uint4*>(address));
}

// The chunk at either end of the table may reach outside it: byte by byte.
__device__ __noinline__ uint4 load_inside(const char* address, const char* begin, const char* end) {
  uint32_t words[4] = {0, 0, 0, 0};
#pragma unroll
  for (int byte = 0; byte < kChunk; ++byte) {
    if (address + byte >= begin && address + byte < end) {
      const auto value = static_cast<uint32_t>(static_cast<unsigned char>(address[byte]));
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

// Stores the bytes [first, last) of a chunk in pieces of kGrain bytes, to which both
// ends and the address are aligned.
template <int kGrain>
__device__ void store_piecewise(char* to, uint4 chunk, int64_t first, int64_t last) {
  if constexpr (kGrain == 16) {
    if (first <= 0 && last >= kChunk) *reinterpret_cast<uint4*>(to) = chunk;
  } else {
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

template <int kLanes, int kGrain>
__global__ void __launch_bounds__(kThreads) gather_rows(const Rows args) {
  constexpr int kUnitBytes = kLanes * kChunk;
  constexpr int kUnitsPerStep = kThreads / kLanes;
  const int lane = threadIdx.x % kLanes;

  for (int64_t tile = blockIdx.x;; tile += gridDim.x) {
    const int64_t first = tile * (kUnitsPerStep * kUnitsInFlight);
    if (first >= args.num_units) return;
    uint4 chunks[kUnitsInFlight];
    int64_t begins[kUnitsInFlight];   // the row's ends, counted from the chunk's start
    int64_t offsets[kUnitsInFlight];  // of the chunk in the output
#pragma unroll
    for (int step = 0; step < kUnitsInFlight; ++step) {
      const int64_t unit = first + step * kUnitsPerStep + threadIdx.x / kLanes;
      begins[step] = -args.row_bytes;  // nothing to store
      offsets[step] = 0;
      chunks[step] = make_uint4(0, 0, 0, 0);
      if (unit >= args.num_units) continue;
      const int64_t row = args.num_units <= UINT32_MAX
                              ? int64_t{static_cast<uint32_t>(unit) / args.units_per_row}
                              : unit / args.units_per_row;
      const int64_t part = unit - row * args.units_per_row;
      const int64_t position = args.positions ? int64_t{args.positions[row]} : row;
      const int64_t id = args.ids_64 ? static_cast<const int64_t*>(args.ids)[position]
                                     : static_cast<const int32_t*>(args.ids)[position];
      const bool valid = id >= 0 && id < args.num_rows;
      // A row to fill is laid out like row 0.
      const char* row_start = args.table + (valid ? id : 0) * args.row_bytes;
      const auto start = reinterpret_cast<uintptr_t>(row_start);
      const char* address =
          row_start - static_cast<int64_t>(start % kUnitBytes) + part * kUnitBytes + lane * kChunk;
      const int64_t begin = row_start - address;
      if (begin >= kChunk || begin + args.row_bytes <= 0) continue;
      begins[step] = begin;
      offsets[step] = position * args.row_bytes - begin;
      if (!valid) {
        chunks[step] = fill_chunk(args.fill, offsets[step]);
      } else if (address >= args.table && address + kChunk <= args.table_end) {
        chunks[step] = load_chunk(address);
      } else {
        chunks[step] = load_inside(address, args.table, args.table_end);
      }
    }
#pragma unroll
    for (int step = 0; step < kUnitsInFlight; ++step) {
      store_piecewise<kGrain>(args.rows + offsets[step], chunks[step], begins[step],
                              begins[step] + args.row_bytes);
    }
  }
}

template <int kLanes, int kGrain>
void launch(cudaStream_t stream, const Rows& rows, int64_t max_blocks) {
  constexpr int64_t kUnitsPerTile = int64_t{kThreads} / kLanes * kUnitsInFlight;
  int64_t blocks = std::min<int64_t>(ceil_div(rows.num_units, kUnitsPerTile), INT32_MAX);
  if (max_blocks > 0) blocks = std::min(blocks, max_blocks);
  gather_rows<kLanes, kGrain><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(rows);
}

// The widest unit that a whole row fills exactly, else a 128-byte line of 8 lanes.
int choose_lanes(int64_t row_bytes, uintptr_t table) {
  const bool power_of_two = (row_bytes & (row_bytes - 1)) == 0;
  if (!power_of_two || row_bytes > 64 || table % row_bytes != 0) return 8;
  return static_cast<int>(std::max<int64_t>(1, row_bytes / kChunk));
}

}  // namespace

Status gather(cudaStream_t stream, const GatherArgs& args) {
  if (args.count == 0 || args.row_bytes == 0) return Status::ok();
  Rows rows{};
  rows.table = reinterpret_cast<const char*>(args.table);
  rows.num_rows = args.num_rows;
  rows.row_bytes = args.row_bytes;
  rows.table_end = rows.table + args.num_rows * args.row_bytes;
  rows.ids = args.ids;
  rows.ids_64 = args.ids_64;
  rows.rows = reinterpret_cast<char*>(args.rows);
  rows.fill[0] = args.fill[0];
  rows.fill[1] = args.fill[1];

  bool on_host = false;
  if (args.num_rows > 0) {
    JAXDIRECT_RETURN_IF_ERROR(is_host_memory("gather", "table", args.table, &on_host));
  }
  const OrderPlan plan = plan_order(args.order, on_host, args.num_rows, args.row_bytes, args.count);
  if (plan.sorted) {
    JAXDIRECT_RETURN_IF_ERROR(order_positions(stream, plan, args.ids, args.ids_64, args.count,
                                              args.num_rows, args.workspace, args.workspace_bytes,
                                              &rows.positions));
  }

  const auto table = reinterpret_cast<uintptr_t>(args.table);
  const int lanes = choose_lanes(args.row_bytes, table);
  const int64_t unit_bytes = lanes * int64_t{kChunk};
  // Rows start at every multiple of `step` in a unit, shifted by the table's start;
  // the one that starts latest spans the most units.
  const int64_t step = std::gcd(args.row_bytes, unit_bytes);
  const int64_t latest = static_cast<int64_t>(table % step) + unit_bytes - step;
  const int64_t units_per_row = ceil_div(latest + args.row_bytes, unit_bytes);
  if (units_per_row > UINT32_MAX) {
    return Status::error("gather: a row must be smaller than 512 GiB, got ", args.row_bytes,
                         " bytes");
  }
  rows.units_per_row = static_cast<uint32_t>(units_per_row);
  rows.num_units = args.count * units_per_row;

  const auto alignment = static_cast<int64_t>(table | reinterpret_cast<uintptr_t>(args.rows));
  const int64_t grain = std::gcd(std::gcd(args.row_bytes, int64_t{kChunk}), alignment);
  if (lanes == 4) {
    launch<4, 16>(stream, rows, args.max_blocks);
  } else if (lanes == 2) {
    launch<2, 16>(stream, rows, args.max_blocks);
  } else if (lanes == 1) {
    switch (grain) {
      case 16:
        launch<1, 16>(stream, rows, args.max_blocks);
        break;
      case 8:
        launch<1, 8>(stream, rows, args.max_blocks);
        break;
      case 4:
        launch<1, 4>(stream, rows, args.max_blocks);
        break;
      case 2:
        launch<1, 2>(stream, rows, args.max_blocks);
        break;
      default:
        launch<1, 1>(stream, rows, args.max_blocks);
        break;
    }
  } else {
    switch (grain) {
      case 16:
        launch<8, 16>(stream, rows, args.max_blocks);
        break;
      case 8:
        launch<8, 8>(stream, rows, args.max_blocks);
        break;
      case 4:
        launch<8, 4>(stream, rows, args.max_blocks);
        break;
      case 2:
        launch<8, 2>(stream, rows, args.max_blocks);
        break;
      default:
        launch<8, 1>(stream, rows, args.max_blocks);
        break;
    }
  }
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "gather");
  return Status::ok();
}

}  // namespace jaxdirect::hostmem
