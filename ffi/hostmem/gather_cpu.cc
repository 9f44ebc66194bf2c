#include "hostmem/gather.h"

#include <cstring>

namespace jaxdirect::hostmem {
namespace {

// Enough rows ahead to hide a cache miss, few enough to stay in the line-fill buffers.
constexpr int64_t kPrefetchAhead = 12;
constexpr int64_t kLine = 64;
constexpr int64_t kLinesAhead = 4;  // the hardware prefetcher follows the rest of a row
constexpr int64_t kPieceBytes = int64_t{256} << 10;

int64_t load_id(const GatherArgs& args, int64_t i) {
  return args.ids_64 ? static_cast<const int64_t*>(args.ids)[i]
                     : static_cast<const int32_t*>(args.ids)[i];
}

bool is_row(const GatherArgs& args, int64_t id) { return id >= 0 && id < args.num_rows; }

void fill_row(const GatherArgs& args, std::byte* row) {
  int64_t done = 0;
  for (; done + 16 <= args.row_bytes; done += 16) std::memcpy(row + done, args.fill, 16);
  std::memcpy(row + done, args.fill, args.row_bytes - done);
}

void prefetch_row(const GatherArgs& args, int64_t i) {
  const int64_t id = load_id(args, i);
  if (!is_row(args, id)) return;
  const std::byte* row = args.table + id * args.row_bytes;
  for (int64_t line = 0; line < kLinesAhead && line * kLine < args.row_bytes; ++line) {
    __builtin_prefetch(row + line * kLine, 0, 0);
  }
}

// kBytes > 0 fixes the row length, so that the copy becomes a few vector moves.
template <int64_t kBytes>
void gather_piece(const GatherArgs& args, int64_t begin, int64_t end) {
  const int64_t row_bytes = kBytes > 0 ? kBytes : args.row_bytes;
  for (int64_t i = begin; i < end; ++i) {
    if (i + kPrefetchAhead < end) prefetch_row(args, i + kPrefetchAhead);
    const int64_t id = load_id(args, i);
    std::byte* row = args.rows + i * row_bytes;
    if (is_row(args, id)) {
      std::memcpy(row, args.table + id * row_bytes, row_bytes);
    } else {
      fill_row(args, row);
    }
  }
}

using Piece = void (*)(const GatherArgs&, int64_t, int64_t);

Piece choose_piece(int64_t row_bytes) {
  switch (row_bytes) {
    case 1: return gather_piece<1>;
    case 2: return gather_piece<2>;
    case 4: return gather_piece<4>;
    case 8: return gather_piece<8>;
    case 16: return gather_piece<16>;
    case 32: return gather_piece<32>;
    case 64: return gather_piece<64>;
    case 128: return gather_piece<128>;
    case 256: return gather_piece<256>;
    default: return gather_piece<0>;
  }
}

}  // namespace

Status gather(const Executor& executor, const GatherArgs& args) {
  if (args.count == 0 || args.row_bytes == 0) return Status::ok();
  const Piece piece = choose_piece(args.row_bytes);
  const int64_t grain = std::max<int64_t>(64, kPieceBytes / args.row_bytes);
  parallel_for(executor, args.count, grain,
               [&](int64_t begin, int64_t end) { piece(args, begin, end); });
  return Status::ok();
}

}  // namespace jaxdirect::hostmem
