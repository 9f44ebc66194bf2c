// linear for one instruction set; see each_target.h. No include guard.
//
// Weights are packed once a call: [weight][panel of kPanel columns][in_dim][kPanel], widened and
// filled up with zero columns. A tile's 64 rows are found first; then kRows rows by one panel at a
// time stay in registers over the whole of in_dim. Rows of float32 and float64 are read where
// they lie.

#include "relational/rows_cpu.h"

namespace jaxdirect::relational::JAXDIRECT_TARGET {
namespace {

// kRows * kPanelVectors sums, a row's number and a panel's vectors fill the registers.
inline constexpr int kRows = JAXDIRECT_VECTOR_BYTES == 64 ? 8 : 6;
inline constexpr int kPanelVectors = 2;
template <typename S>
inline constexpr int64_t kPanel = kPanelVectors * kLanes<S>;
// Rows of a tile, filled up to whole groups.
inline constexpr int64_t kGroupedRows = (kTile + kRows - 1) / kRows * kRows;

template <typename S>
struct PackedWeights {
  PackedWeights(int64_t count, int64_t in_dim, int64_t out_dim)
      : panels(ceil_div(out_dim, kPanel<S>)),
        panel_size(in_dim * kPanel<S>),
        values(count * panels * panel_size) {}

  S* panel(int64_t weight, int64_t p) const {
    return values.data() + (weight * panels + p) * panel_size;
  }

  int64_t panels;
  int64_t panel_size;
  Scratch<S> values;
};

template <typename T>
void pack_panel(const LinearArgs& args, int64_t weight, int64_t first_column, Sum<T>* panel) {
  using S = Sum<T>;
  const T* from = static_cast<const T*>(args.weight) + weight * args.in_dim * args.out_dim;
  const int64_t columns = std::min(kPanel<S>, args.out_dim - first_column);
  if (columns < kPanel<S>) zero_row(panel, args.in_dim * kPanel<S>);
  if (args.transposed) {
    for (int64_t c = 0; c < columns; ++c) {
      const T* row = from + (first_column + c) * args.in_dim;
      for (int64_t k = 0; k < args.in_dim; ++k) {
        panel[k * kPanel<S> + c] = static_cast<S>(row[k]);
      }
    }
  } else {
    for (int64_t k = 0; k < args.in_dim; ++k) {
      widen_row(panel + k * kPanel<S>, from + k * args.out_dim + first_column, columns);
    }
  }
}

// to[r][column..] = rows[r] * panel, for kRows rows.
template <typename T>
inline void multiply_rows(const Sum<T>* const* rows, int64_t depth, const Sum<T>* panel,
                          T* const* to, int64_t column, int64_t columns) {
  using S = Sum<T>;
  constexpr int64_t L = kLanes<S>;
  Vec<S> total[kRows][kPanelVectors] = {};
  for (int64_t k = 0; k < depth; ++k, panel += kPanel<S>) {
    const Vec<S> right[kPanelVectors] = {load(panel), load(panel + L)};
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec<S> left = splat(rows[r][k]);
#pragma GCC unroll 2
      for (int v = 0; v < kPanelVectors; ++v) total[r][v] += left * right[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kPanelVectors; ++v) {
      const int64_t left = columns - v * L;
      if (left >= L) {
        store<T>(to[r] + column + v * L, total[r][v]);
      } else if (left > 0) {
        store_part<T>(to[r] + column + v * L, total[r][v], left);
      }
    }
  }
}

// One thread's work on tiles.
template <typename T>
class TileMultiplier {
 public:
  using S = Sum<T>;

  TileMultiplier(const LinearArgs& args, const PackedWeights<S>& weights, const int32_t* places)
      : args_(args),
        weights_(weights),
        places_(places),
        prefetch_(args.in_dim * static_cast<int64_t>(sizeof(T))),
        buffer_(kWidens ? kTile * args.in_dim : 0),
        zeros_(args.in_dim),
        unused_(args.out_dim) {
    zero_row(zeros_.data(), args.in_dim);
    for (int64_t i = 0; i < kGroupedRows; ++i) {
      rows_[i] = zeros_.data();
      to_[i] = unused_.data();
    }
  }

  void operator()(int64_t tile) {
    for (int64_t i = 0; i < kTile; ++i) rows_[i] = wide_row(tile, i);
    const int64_t weight = args_.weight_of[tile];
    const bool known = in_range(weight, args_.num_weights);
    for (int64_t i = 0; i < kTile; ++i) {
      const int64_t slot = tile * kTile + i;
      const int64_t row = args_.scatter ? args_.nodes[slot] : slot;
      to_[i] = in_range(row, args_.num_out) ? static_cast<T*>(args_.out) + row * args_.out_dim
                                            : unused_.data();
    }
    multiply(tile + 1, known ? weights_.panel(places_[weight], 0) : nullptr);
  }

 private:
  static constexpr bool kWidens = !std::is_same_v<T, S>;

  const T* find_row(int64_t tile, int64_t i) const {
    return slot_row<T>(args_.x[tile < args_.num_first ? 0 : 1], args_.in_dim, tile * kTile + i,
                       args_.nodes);
  }

  const S* wide_row(int64_t tile, int64_t i) {
    const T* row = find_row(tile, i);
    if (row == nullptr) return zeros_.data();
    if constexpr (kWidens) {
      S* wide = buffer_.data() + i * args_.in_dim;
      widen_row(wide, row, args_.in_dim);
      return wide;
    } else {
      return row;
    }
  }

  void prefetch_slots(int64_t tile, int64_t begin, int64_t end) const {
    if (tile >= args_.num_tiles) return;
    for (int64_t i = begin; i < end; ++i) {
      const T* row = find_row(tile, i);
      if (row != nullptr) prefetch_(row);
    }
  }

  void multiply(int64_t next_tile, const S* panel) {
    const int64_t depth = panel == nullptr ? 0 : args_.in_dim;
    const int64_t panel_size = panel == nullptr ? 0 : weights_.panel_size;
    for (int64_t p = 0; p < weights_.panels; ++p, panel += panel_size) {
      const int64_t column = p * kPanel<S>;
      for (int64_t i = 0; i < kGroupedRows; i += kRows) {
        if (p == 0) prefetch_slots(next_tile, i, std::min<int64_t>(i + kRows, kTile));
        multiply_rows<T>(rows_ + i, depth, panel, to_ + i, column, args_.out_dim - column);
      }
    }
  }

  const LinearArgs& args_;
  const PackedWeights<S>& weights_;
  const int32_t* places_;
  Prefetch prefetch_;
  Scratch<S> buffer_;
  Scratch<S> zeros_;
  Scratch<T> unused_;
  const S* rows_[kGroupedRows];
  T* to_[kGroupedRows];
};

template <typename T>
void linear(const Executor& executor, const LinearArgs& args) {
  using S = Sum<T>;
  constexpr int64_t kPiecesPerThread = 16;
  // Only weights that a tile asks for are packed.
  std::vector<int32_t> places(args.num_weights, -1);
  std::vector<int32_t> used;
  for (int64_t tile = 0; tile < args.num_tiles; ++tile) {
    const int32_t weight = args.weight_of[tile];
    if (!in_range(weight, args.num_weights) || places[weight] >= 0) continue;
    places[weight] = static_cast<int32_t>(used.size());
    used.push_back(weight);
  }
  const auto num_used = static_cast<int64_t>(used.size());
  const PackedWeights<S> weights(num_used, args.in_dim, args.out_dim);
  parallel_for(executor, num_used * weights.panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t p = i % weights.panels;
      pack_panel<T>(args, used[i / weights.panels], p * kPanel<S>,
                    weights.panel(i / weights.panels, p));
    }
  });
  const int64_t pieces = std::min(args.num_tiles, kPiecesPerThread * executor.num_threads);
  parallel_for(executor, args.num_tiles, ceil_div(args.num_tiles, pieces),
               [&](int64_t begin, int64_t end) {
                 TileMultiplier<T> multiply(args, weights, places.data());
                 for (int64_t tile = begin; tile < end; ++tile) multiply(tile);
               });
}

}  // namespace

void linear(const Executor& executor, const LinearArgs& args) {
  with_type(args.type, [&]<typename T>() { linear<T>(executor, args); });
}

}  // namespace jaxdirect::relational::JAXDIRECT_TARGET
