#pragma once

// Device memory for values on their way between a program's buffers and the host. XLA may use an
// operand's memory again as soon as a handler returns, and gives a result's memory only then; what
// is slower than that waits here.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <vector>

#include "common/status.h"
#include "offload/streams.h"

namespace jaxdirect::offload {

// One piece of memory in chunks of the same size, which hold pieces of values. Pieces come and go
// one by one, so that copies from and to the host go on wherever a chunk is free. Not safe for
// several threads: its owner has a lock.
class Staging {
 public:
  // Which piece of which value.
  struct Piece {
    Ticket ticket = 0;
    size_t index = 0;
  };

  // Room for two values of that size, eight chunks each, or for `limit` bytes unless that is 0;
  // none for values of 0. Waits for all copies; no chunk has an owner afterwards.
  Status resize(int64_t value_bytes, int64_t limit);

  int64_t bytes() const { return static_cast<int64_t>(chunks_.size()) * chunk_bytes_; }
  int64_t chunk_bytes() const { return chunk_bytes_; }

  // The chunk that has been free longest, or -1.
  int take(Piece owner);
  // Whose chunk was taken first; nullptr if all are free.
  const Piece* oldest() const { return owners_.empty() ? nullptr : &owners_.front(); }
  void give(int chunk);

  std::byte* at(int chunk) const { return data_ + chunk * chunk_bytes_; }
  // What must have passed before the chunk is written again.
  std::vector<EventRef>& users(int chunk) { return chunks_[static_cast<size_t>(chunk)].users; }

 private:
  struct Chunk {
    std::vector<EventRef> users;
    std::list<Piece>::iterator owner;
  };

  std::byte* data_ = nullptr;
  int64_t chunk_bytes_ = 1;
  std::vector<Chunk> chunks_;
  std::deque<int> free_;
  std::list<Piece> owners_;
};

}  // namespace jaxdirect::offload
