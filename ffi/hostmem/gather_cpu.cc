#include <algorithm>
#include <cstring>

#include "common/host_memory.h"
#include "hostmem/gather.h"

namespace jaxdirect::hostmem {
namespace {

constexpr int64_t kLine = 64;
// Lines under way at a time: what a core's miss buffers hold, and a little more.
constexpr int64_t kLinesAhead = 32;
constexpr int64_t kLinesOfARow = 4;                // the hardware prefetcher follows the rest of it
constexpr int64_t kCacheBytes = int64_t{1} << 20;  // tables up to this size need no help
// Threads should not meet in one huge page of the result, which the first to touch it clears.
constexpr int64_t kMostPieceBytes = int64_t{2} << 20;
constexpr int64_t kLeastPieceBytes = int64_t{256} << 10;
constexpr int64_t kPiecesPerThread = 4;

void fill_row(const GatherArgs& args, std::byte* row) {
  int64_t done = 0;
  for (; done + 16 <= args.row_bytes; done += 16) std::memcpy(row + done, args.fill, 16);
  std::memcpy(row + done, args.fill, args.row_bytes - done);
}

// Where a row is read, or null where it is none. A negative id is a large one here.
inline const std::byte* find_row(const GatherArgs& args, int64_t id, int64_t row_bytes) {
  if (static_cast<uint64_t>(id) >= static_cast<uint64_t>(args.list.num_rows)) return nullptr;
  const int64_t slot = args.list.slot_of(id);
  return slot < 0 ? args.table + id * row_bytes : args.cache + slot * row_bytes;
}

// kBytes > 0 fixes the row length, so that the copy becomes a few vector moves.
template <typename Id, int64_t kBytes>
void gather_piece(const GatherArgs& args, int64_t begin, int64_t end) {
  const auto* ids = static_cast<const Id*>(args.list.ids.data);
  const int64_t row_bytes = kBytes > 0 ? kBytes : args.row_bytes;
  const int64_t row_lines = std::min((row_bytes + kLine - 1) / kLine, kLinesOfARow);
  const bool prefetch = args.list.num_rows * row_bytes > kCacheBytes;
  const int64_t ahead = prefetch ? kLinesAhead / row_lines : 0;

  for (int64_t i = begin; i < end; ++i) {
    if (prefetch && i + ahead < end) {
      const std::byte* row = find_row(args, ids[i + ahead], row_bytes);
      for (int64_t line = 0; row && line < row_lines; ++line) {
        __builtin_prefetch(row + line * kLine);
      }
    }
    std::byte* to = args.rows + i * row_bytes;
    if (const std::byte* row = find_row(args, ids[i], row_bytes)) {
      std::memcpy(to, row, row_bytes);
    } else {
      fill_row(args, to);
    }
  }
}

using Piece = void (*)(const GatherArgs&, int64_t, int64_t);

template <typename Id>
Piece choose_piece(int64_t row_bytes) {
  switch (row_bytes) {
    case 1:
      return gather_piece<Id, 1>;
    case 2:
      return gather_piece<Id, 2>;
    case 4:
      return gather_piece<Id, 4>;
    case 8:
      return gather_piece<Id, 8>;
    case 16:
      return gather_piece<Id, 16>;
    case 32:
      return gather_piece<Id, 32>;
    case 64:
      return gather_piece<Id, 64>;
    case 128:
      return gather_piece<Id, 128>;
    case 256:
      return gather_piece<Id, 256>;
    default:
      return gather_piece<Id, 0>;
  }
}

}  // namespace

Status gather(const Executor& executor, const GatherArgs& args) {
  if (args.list.count == 0 || args.row_bytes == 0) return Status::ok();
  const Piece piece = args.list.ids.is_64 ? choose_piece<int64_t>(args.row_bytes)
                                          : choose_piece<int32_t>(args.row_bytes);
  const int64_t bytes = args.list.count * args.row_bytes;
  const int64_t piece_bytes = std::clamp(bytes / (kPiecesPerThread * executor.num_threads),
                                         kLeastPieceBytes, kMostPieceBytes);
  advise_huge_pages(args.rows, bytes);
  const int64_t grain = std::max<int64_t>(64, piece_bytes / args.row_bytes);
  parallel_for(executor, args.list.count, grain,
               [&](int64_t begin, int64_t end) { piece(args, begin, end); });
  return Status::ok();
}

}  // namespace jaxdirect::hostmem
