#include "relational/cpu.h"
#include "relational/outer.h"

namespace jaxdirect::relational {
namespace {

// Chunks of one weight that one thread multiplies up.
struct OuterSegment {
  int64_t weight = 0;
  int64_t first_chunk = 0;
  int64_t end_chunk = 0;
};

// A chunk's place in weight_tiles, within bounds.
Range tiles_of(const OuterArgs& args, int64_t chunk) {
  const int32_t* numbers = args.chunks + 3 * chunk;
  Range range;
  range.begin = std::clamp<int64_t>(numbers[1], 0, args.num_tiles);
  range.end = std::clamp<int64_t>(numbers[2], range.begin, args.num_tiles);
  return range;
}

Range chunks_of(const OuterArgs& args, int64_t weight) {
  Range range;
  range.begin = std::clamp<int64_t>(args.chunk_indptr[weight], 0, args.num_chunks);
  range.end = std::clamp<int64_t>(args.chunk_indptr[weight + 1], range.begin, args.num_chunks);
  return range;
}

std::vector<OuterSegment> cut_segments(const OuterArgs& args, int64_t quota) {
  std::vector<OuterSegment> segments;
  for (int64_t weight = 0; weight < args.num_weights; ++weight) {
    const Range chunks = chunks_of(args, weight);
    int64_t first = chunks.begin;
    int64_t tiles = 0;
    for (int64_t chunk = chunks.begin; chunk < chunks.end; ++chunk) {
      tiles += tiles_of(args, chunk).count();
      if (tiles < quota && chunk + 1 < chunks.end) continue;
      segments.push_back({weight, first, chunk + 1});
      first = chunk + 1;
      tiles = 0;
    }
  }
  return segments;
}

// Enough segments to share out, few enough to add up.
std::vector<OuterSegment> find_segments(const OuterArgs& args) {
  constexpr int64_t kSegments = 64;
  constexpr int64_t kLeastTiles = 4;
  const int64_t quota = std::max(ceil_div(args.num_tiles, kSegments), kLeastTiles);
  std::vector<OuterSegment> segments = cut_segments(args, quota);
  // More of them have tiles in common, which no plan says.
  if (std::ssize(segments) <= kSegments + args.num_weights) return segments;
  return cut_segments(args, std::numeric_limits<int64_t>::max());
}

}  // namespace
}  // namespace jaxdirect::relational

#define JAXDIRECT_TARGET_CODE "relational/outer_target.h"
#include "common/each_target.h"

namespace jaxdirect::relational {

Status outer(const Executor& executor, const OuterArgs& args) {
  if (args.num_weights == 0 || args.a_dim == 0 || args.b_dim == 0) return Status::ok();
  JAXDIRECT_FOR_THIS_CPU(outer(executor, args, find_segments(args)));
  return Status::ok();
}

}  // namespace jaxdirect::relational
