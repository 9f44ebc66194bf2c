#include <algorithm>
#include <bit>
#include <vector>

#include "hostmem/philox_cpu.h"
#include "hostmem/sample.h"

namespace jaxdirect::hostmem {
namespace {

// A block's picks are drawn and prefetched before any of them is read.
constexpr int64_t kBlockEdges = 256;
constexpr int64_t kBlockSeeds = 64;
constexpr int64_t kPieceEdges = 2048;

// The offsets that one seed has taken: open addressing, emptied by a new stamp.
class TakenSet {
 public:
  explicit TakenSet(int64_t capacity)
      : num_slots_(std::bit_ceil(static_cast<uint64_t>(4 * capacity))),
        shift_(64 - std::countr_zero(num_slots_)) {}

  void clear() {
    if (slots_.empty() || ++stamp_ == 0) {
      slots_.assign(num_slots_, 0);
      stamp_ = 1;
    }
  }

  // False if `offset` was there.
  bool insert(uint32_t offset) {
    const uint64_t entry = uint64_t{stamp_} << 32 | offset;
    const uint64_t last = num_slots_ - 1;
    for (uint64_t slot = (offset * 0x9E3779B97F4A7C15u) >> shift_;; slot = (slot + 1) & last) {
      if (slots_[slot] == entry) return false;
      if (slots_[slot] >> 32 != stamp_) {
        slots_[slot] = entry;
        return true;
      }
    }
  }

 private:
  uint64_t num_slots_;
  int shift_;
  std::vector<uint64_t> slots_;
  uint32_t stamp_ = 0;
};

// Calls visit(j, u) with draw j for j in [0, fanout).
template <typename Visit>
void for_each_draw(PhiloxKey key, int64_t fanout, const Visit& visit) {
  static const PhiloxBatch batch = choose_philox_batch();
  uint64_t draws[kBatchDraws];
  for (int64_t first = 0; first < fanout; first += kBatchDraws) {
    batch(key, static_cast<uint32_t>(first / 2), draws);
    const int64_t last = std::min(first + kBatchDraws, fanout);
    for (int64_t j = first; j < last; ++j) visit(j, draws[j - first]);
  }
}

bool is_node(const SampleArgs& args, int64_t seed) { return seed >= 0 && seed < args.num_nodes; }

template <typename Id>
const Id* elements(const IndexList& list) {
  return static_cast<const Id*>(list.data);
}

// Writes the edges that seed i picks, and asks for their neighbours.
template <typename Index, typename Edge>
void pick_edges(const SampleArgs& args, int64_t i, TakenSet* taken) {
  const int64_t seed = args.seeds[i];
  NeighborList list;
  if (is_node(args, seed)) {
    list = bounded_list(args.indptr[seed], args.indptr[seed + 1], args.num_edges);
  }
  const int64_t fanout = args.fanout;
  const int32_t count = sample_count(list.degree, fanout, args.replace);
  const Index* neighbors = elements<Index>(args.indices) + list.start;
  Edge* edges = static_cast<Edge*>(args.edge_ids.data) + i * fanout;
  auto pick = [&](int64_t j, uint32_t offset) {
    edges[j] = static_cast<Edge>(list.start + offset);
    __builtin_prefetch(neighbors + offset, 0, 0);
  };

  if (args.replace && count > 0) {
    for_each_draw(args.state[i], fanout,
                  [&](int64_t j, uint64_t u) { pick(j, bounded(u, list.degree)); });
  } else if (list.degree > fanout) {
    taken->clear();
    for_each_draw(args.state[i], fanout, [&](int64_t j, uint64_t u) {
      const uint32_t last = list.degree - static_cast<uint32_t>(fanout - j);
      uint32_t offset = bounded(u, last + 1);
      if (!taken->insert(offset)) {
        offset = last;
        taken->insert(offset);
      }
      pick(j, offset);
    });
  } else {
    for (int32_t j = 0; j < count; ++j) pick(j, static_cast<uint32_t>(j));
  }
  std::fill(edges + count, edges + fanout, Edge{-1});
  args.counts[i] = count;
}

template <typename Index, typename Edge>
void sample_piece(const SampleArgs& args, int64_t begin, int64_t end) {
  TakenSet taken(args.fanout);
  const int64_t block = std::clamp<int64_t>(kBlockEdges / args.fanout, 1, kBlockSeeds);
  auto prefetch_rows = [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t seed = args.seeds[i];
      if (!is_node(args, seed)) continue;
      const int64_t entry_bytes = args.indptr.is_64 ? 8 : 4;
      __builtin_prefetch(static_cast<const char*>(args.indptr.data) + seed * entry_bytes, 0, 0);
    }
  };

  prefetch_rows(begin, std::min(begin + block, end));
  for (int64_t first = begin; first < end; first += block) {
    const int64_t last = std::min(first + block, end);
    prefetch_rows(last, std::min(last + block, end));
    for (int64_t i = first; i < last; ++i) pick_edges<Index, Edge>(args, i, &taken);

    const Index* indices = elements<Index>(args.indices);
    const Edge* edges = static_cast<const Edge*>(args.edge_ids.data);
    Index* neighbors = static_cast<Index*>(args.neighbors.data);
    for (int64_t k = first * args.fanout; k < last * args.fanout; ++k) {
      neighbors[k] = edges[k] >= 0 ? indices[edges[k]] : Index{-1};
    }
  }
}

using Piece = void (*)(const SampleArgs&, int64_t, int64_t);

Piece choose_piece(bool index_64, bool edge_64) {
  if (index_64) return edge_64 ? sample_piece<int64_t, int64_t> : sample_piece<int64_t, int32_t>;
  return edge_64 ? sample_piece<int32_t, int64_t> : sample_piece<int32_t, int32_t>;
}

}  // namespace

Status sample_neighbors(const Executor& executor, const SampleArgs& args) {
  const Piece piece = choose_piece(args.indices.is_64, args.edge_ids.is_64);
  const int64_t grain = std::max<int64_t>(1, kPieceEdges / args.fanout);
  parallel_for(executor, args.count, grain,
               [&](int64_t begin, int64_t end) { piece(args, begin, end); });
  return Status::ok();
}

}  // namespace jaxdirect::hostmem
