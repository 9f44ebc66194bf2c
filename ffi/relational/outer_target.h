// outer for one instruction set; see each_target.h. No include guard.
//
// Rows of kBatchRows slots are packed: a in blocks of kBlock columns, b in panels of kPanel,
// widened and filled up with zeros. A block by a panel of the product stays in registers over the
// batch. Chunks are joined to segments whose number does not depend on that of the threads;
// every segment has a product of its own, and those of a weight are added in order.

#include "relational/rows_cpu.h"

namespace jaxdirect::relational::JAXDIRECT_TARGET {
namespace {

inline constexpr int kBlock = JAXDIRECT_VECTOR_BYTES == 64 ? 8 : 6;
inline constexpr int kPanelVectors = 2;
template <typename S>
inline constexpr int64_t kPanel = kPanelVectors * kLanes<S>;
inline constexpr int64_t kBatchRows = 2 * kTile;

// sums[kBlock][kPanel] (+)= the products of `rows` packed rows.
template <typename S>
inline void multiply_block(const S* a, const S* b, int64_t rows, bool add, S* sums) {
  constexpr int64_t L = kLanes<S>;
  Vec<S> total[kBlock][kPanelVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kBlock; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kPanelVectors; ++v) {
      total[i][v] = add ? load(sums + i * kPanel<S> + v * L) : Vec<S>{};
    }
  }
  for (int64_t row = 0; row < rows; ++row, a += kBlock, b += kPanel<S>) {
    const Vec<S> right[kPanelVectors] = {load(b), load(b + L)};
#pragma GCC unroll 8
    for (int i = 0; i < kBlock; ++i) {
      const Vec<S> left = splat(a[i]);
#pragma GCC unroll 2
      for (int v = 0; v < kPanelVectors; ++v) total[i][v] += left * right[v];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kBlock; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kPanelVectors; ++v) store<S>(sums + i * kPanel<S> + v * L, total[i][v]);
  }
}

// One segment's work: products [panel][block][kBlock][kPanel].
template <typename T>
class OuterSum {
 public:
  using S = Sum<T>;

  explicit OuterSum(const OuterArgs& args)
      : args_(args),
        blocks_(ceil_div(args.a_dim, kBlock)),
        panels_(ceil_div(args.b_dim, kPanel<S>)),
        a_(blocks_ * kBlock * kBatchRows),
        b_(panels_ * kPanel<S> * kBatchRows) {
    zero_row(a_.data(), blocks_ * kBlock * kBatchRows);
    zero_row(b_.data(), panels_ * kPanel<S> * kBatchRows);
  }

  static int64_t size(const OuterArgs& args) {
    return round_up(args.a_dim, kBlock) * round_up(args.b_dim, kPanel<S>);
  }

  void operator()(const OuterSegment& segment, S* sums) {
    rows_ = 0;
    started_ = false;
    for (int64_t chunk = segment.first_chunk; chunk < segment.end_chunk; ++chunk) {
      const Range range = tiles_of(args_, chunk);
      for (int64_t i = range.begin; i < range.end; ++i) {
        if (rows_ + kTile > kBatchRows) multiply(sums);
        const int64_t tile = args_.weight_tiles[i];
        const int64_t next = i + 1 < range.end ? args_.weight_tiles[i + 1] : -1;
        if (in_range(tile, args_.num_tiles)) pack_tile(tile, next);
      }
    }
    if (rows_ > 0 || !started_) multiply(sums);
  }

  // out += the segment's product, or = for the first.
  void add(const S* sums, bool first, S* out) const {
    for (int64_t p = 0; p < panels_; ++p) {
      const int64_t columns = std::min(kPanel<S>, args_.b_dim - p * kPanel<S>);
      for (int64_t row = 0; row < args_.a_dim; ++row) {
        const S* from = sums + (p * blocks_ * kBlock + row) * kPanel<S>;
        S* to = out + row * args_.b_dim + p * kPanel<S>;
        for (int64_t c = 0; c < columns; ++c) to[c] = first ? from[c] : to[c] + from[c];
      }
    }
  }

  // A row in pieces of kWidth columns, kWidth * kBatchRows apart.
  template <int64_t kWidth>
  void pack_row(const T* row, int64_t dim, S* to) const {
    int64_t c = 0;
    for (; c + kWidth <= dim; c += kWidth, to += kWidth * kBatchRows) {
      if constexpr (kWidth % kLanes<S> == 0) {
        for (int64_t i = 0; i < kWidth; i += kLanes<S>) store<S>(to + i, load(row + c + i));
      } else {
        for (int64_t i = 0; i < kWidth; ++i) to[i] = static_cast<S>(row[c + i]);
      }
    }
    for (int64_t i = 0; c + i < dim; ++i) to[i] = static_cast<S>(row[c + i]);
  }

  void pack_tile(int64_t tile, int64_t next_tile) {
    (void)next_tile;
    const int part = tile < args_.num_first ? 0 : 1;
    for (int64_t i = 0; i < kTile; ++i) {
      const int64_t slot = tile * kTile + i;
      const T* a = slot_row<T>(args_.a[part], args_.a_dim, slot, args_.nodes);
      const T* b = slot_row<T>(args_.b[part], args_.b_dim, slot, args_.nodes);
      if (a == nullptr || b == nullptr) continue;
      pack_row<kBlock>(a, args_.a_dim, a_.data() + rows_ * kBlock);
      pack_row<kPanel<S>>(b, args_.b_dim, b_.data() + rows_ * kPanel<S>);
      ++rows_;
    }
  }

  void multiply(S* sums) {
    for (int64_t p = 0; p < panels_; ++p) {
      for (int64_t block = 0; block < blocks_; ++block) {
        multiply_block<S>(a_.data() + block * kBlock * kBatchRows,
                          b_.data() + p * kPanel<S> * kBatchRows, rows_, started_,
                          sums + (p * blocks_ + block) * kBlock * kPanel<S>);
      }
    }
    rows_ = 0;
    started_ = true;
  }

  const OuterArgs& args_;
  int64_t blocks_;
  int64_t panels_;
  Scratch<S> a_;
  Scratch<S> b_;
  int64_t rows_ = 0;
  bool started_ = false;
};

template <typename T>
void outer(const Executor& executor, const OuterArgs& args,
           const std::vector<OuterSegment>& segments) {
  using S = Sum<T>;
  const int64_t size = OuterSum<T>::size(args);
  const auto num_segments = static_cast<int64_t>(segments.size());
  Scratch<S> sums(num_segments * size);
  parallel_for(executor, num_segments, 1, [&](int64_t begin, int64_t end) {
    OuterSum<T> multiply(args);
    for (int64_t i = begin; i < end; ++i) multiply(segments[i], sums.data() + i * size);
  });
  const int64_t out_size = args.a_dim * args.b_dim;
  parallel_for(executor, args.num_weights, 1, [&](int64_t begin, int64_t end) {
    const OuterSum<T> adder(args);
    Scratch<S> wide(out_size);
    auto segment = std::partition_point(segments.begin(), segments.end(),
                                        [&](const auto& s) { return s.weight < begin; });
    for (int64_t weight = begin; weight < end; ++weight) {
      T* out = static_cast<T*>(args.out) + weight * out_size;
      bool first = true;
      for (; segment != segments.end() && segment->weight == weight; ++segment) {
        adder.add(sums.data() + (segment - segments.begin()) * size, first, wide.data());
        first = false;
      }
      if (first) {
        zero_row(out, out_size);
      } else {
        narrow_row(out, wide.data(), S(1), out_size);
      }
    }
  });
}

}  // namespace

void outer(const Executor& executor, const OuterArgs& args,
           const std::vector<OuterSegment>& segments) {
  with_type(args.type, [&]<typename T>() { outer<T>(executor, args, segments); });
}

}  // namespace jaxdirect::relational::JAXDIRECT_TARGET
