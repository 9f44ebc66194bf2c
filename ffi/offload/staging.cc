#include "offload/staging.h"

#include <algorithm>
#include <iterator>

#include "common/integers.h"

namespace jaxdirect::offload {
namespace {

constexpr int64_t kAlignment = 512;
constexpr int64_t kLeastChunk = 16 << 10;  // calls for less take longer than their copies
constexpr int64_t kChunksOfLargest = 8;

}  // namespace

Status Staging::resize(int64_t value_bytes, int64_t limit) {
  for (const Chunk& chunk : chunks_) {
    for (const EventRef& event : chunk.users) JAXDIRECT_RETURN_IF_ERROR(synchronize(event));
  }
  chunks_.clear();
  free_.clear();
  owners_.clear();
  if (data_ != nullptr) free_staging(data_);
  data_ = nullptr;
  if (value_bytes == 0) return Status::ok();
  const int64_t least = std::min(value_bytes, kLeastChunk);
  chunk_bytes_ = round_up(std::max(ceil_div(value_bytes, kChunksOfLargest), least), kAlignment);
  int64_t count = 2 * ceil_div(value_bytes, chunk_bytes_);
  if (limit > 0) {
    chunk_bytes_ = std::clamp(limit / 2 / kAlignment * kAlignment, kAlignment, chunk_bytes_);
    count = std::max<int64_t>(limit / chunk_bytes_, 2);
  }
  JAXDIRECT_RETURN_IF_ERROR(allocate_staging(count * chunk_bytes_, &data_));
  chunks_.resize(static_cast<size_t>(count));
  for (int chunk = 0; chunk < count; ++chunk) free_.push_back(chunk);
  return Status::ok();
}

int Staging::take(Piece owner) {
  if (free_.empty()) return -1;
  const int chunk = free_.front();
  free_.pop_front();
  owners_.push_back(owner);
  chunks_[static_cast<size_t>(chunk)].owner = std::prev(owners_.end());
  return chunk;
}

void Staging::give(int chunk) {
  owners_.erase(chunks_[static_cast<size_t>(chunk)].owner);
  free_.push_back(chunk);
}

}  // namespace jaxdirect::offload
