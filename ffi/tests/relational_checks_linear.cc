#include "relational/linear.h"
#include "relational_checks.h"

namespace jaxdirect::relational::checks {
namespace {

struct LinearCase {
  int64_t tiles;
  int64_t in_dim;
  int64_t out_dim;
  bool by_node[2];  // the first tiles, and the others
  bool transposed;
  bool scatter;
  Precision precision;
};

std::string describe(const LinearCase& is, FloatType type) {
  return join(is.tiles, " tiles, ", is.in_dim, " -> ", is.out_dim, ", by node ", is.by_node[0],
              is.by_node[1], is.transposed ? ", transposed" : "", is.scatter ? ", scattered" : "",
              ", type ", static_cast<int>(type));
}

// Tensor cores round float32 to 11 bits unless told otherwise.
double product_loss(FloatType type, Precision precision) {
#ifdef JAXDIRECT_CUDA_MODULE
  if (type == FloatType::kF32) return precision == Precision::kHighest ? 64 : 0x1p14;
#endif
  (void)type;
  (void)precision;
  return 0;
}

template <typename T>
struct LinearData {
  static constexpr int64_t kNodes = 150;
  static constexpr int64_t kWeights = 3;

  LinearData(const LinearCase& is, bool spoilt)
      : is(is), tiles(random_tiles(is.tiles, kWeights, kNodes)) {
    if (is.tiles > 2) tiles.weight_of[is.tiles - 1] = kWeights + 1;
    num_first = uniform(0, is.tiles);
    const int64_t own[2] = {kTile * num_first, kTile * (is.tiles - num_first)};
    for (const int part : {0, 1}) {
      num_rows[part] = is.by_node[part] ? kNodes : own[part];
      x[part] = random_values<T>(num_rows[part] * is.in_dim);
    }
    num_out = is.scatter ? kTile * is.tiles / 2 : kTile * is.tiles;
    weight = random_values<T>(kWeights * is.in_dim * is.out_dim);
    if (spoilt) spoil(&tiles);
  }

  SlotRows rows(int part, Buffer<T>& buffer) const {
    return {buffer.data(), num_rows[part], is.by_node[part], part == 0 ? 0 : kTile * num_first};
  }

  // Column k of a slot's row.
  double row(int64_t slot, int64_t k) const {
    const int part = slot / kTile < num_first ? 0 : 1;
    const int64_t node = tiles.nodes[slot];
    const int64_t index = is.by_node[part] ? node : slot - (part == 0 ? 0 : kTile * num_first);
    if (node < 0 || index >= num_rows[part]) return 0;
    return widen(x[part][index * is.in_dim + k]);
  }

  LinearCase is;
  HostTiles tiles;
  int64_t num_first, num_out;
  int64_t num_rows[2];
  std::vector<T> x[2], weight;
};

template <typename T>
void compare(const LinearData<T>& data, FloatType type, const std::vector<T>& got) {
  const LinearCase& is = data.is;
  std::vector<char> written(data.num_out, 0);
  for (int64_t slot = 0; slot < kTile * is.tiles; ++slot) {
    const int64_t node = data.tiles.nodes[slot];
    const int64_t to = is.scatter ? node : slot;
    if (to < 0 || to >= data.num_out) continue;
    written[to] = 1;
    const int64_t weight = data.tiles.weight_of[slot / kTile];
    const bool known = weight >= 0 && weight < data.kWeights;
    for (int64_t c = 0; c < is.out_dim; ++c) {
      Exact want;
      for (int64_t k = 0; k < is.in_dim && known; ++k) {
        const int64_t at = is.transposed ? c * is.in_dim + k : k * is.out_dim + c;
        const double factor = widen(data.weight[weight * is.in_dim * is.out_dim + at]);
        want.add(data.row(slot, k), factor);
      }
      const double loose = product_loss(type, is.precision);
      if (is_close(got[to * is.out_dim + c], want, loose)) continue;
      return expect(false, "linear", join("slot ", slot, " column ", c, ": ", describe(is, type)));
    }
  }
  for (int64_t i = 0; i < data.num_out * is.out_dim && is.scatter; ++i) {
    if (written[i / is.out_dim] != 0 || widen(got[i]) == 0) continue;
    return expect(false, "linear: a row without a slot is not zero", describe(is, type));
  }
}

template <typename T>
void check_case(Launcher& launcher, FloatType type, const LinearCase& is, bool spoilt = false) {
  const LinearData<T> data(is, spoilt);
  Buffer<int32_t> nodes(data.tiles.nodes);
  Buffer<int32_t> weight_of(data.tiles.weight_of);
  Buffer<T> first(data.x[0]);
  Buffer<T> second(data.x[1]);
  Buffer<T> weight(data.weight);
  LinearArgs args;
  args.x[0] = data.rows(0, first);
  args.x[1] = data.rows(1, second);
  args.in_dim = is.in_dim;
  args.out_dim = is.out_dim;
  args.weight = weight.data();
  args.transposed = is.transposed;
  args.num_weights = data.kWeights;
  args.weight_of = weight_of.data();
  args.num_tiles = is.tiles;
  args.nodes = nodes.data();
  args.num_first = data.num_first;
  args.scatter = is.scatter;
  args.fill = true;
  args.num_out = data.num_out;
  args.type = type;
  args.precision = is.precision;
  const auto launch = [&](Context context, T* out, float*) {
    LinearArgs with = args;
    with.out = out;
    return linear(context, with);
  };
  const int64_t size = data.num_out * is.out_dim;
  if (spoilt) return run_spoilt<T>(launcher, "linear", size, 0, launch);
  compare(data, type, run<T>(launcher, "linear", size, 0, launch).first);
}

}  // namespace

void check_linear(Launcher& launcher, bool quick) {
  const Sizes dims = quick ? Sizes{17, 64} : Sizes{1, 3, 8, 17, 64, 72, 130};
  for_each_type([&]<typename T>(FloatType type) {
    int turn = 0;
    for (const int64_t in_dim : dims) {
      for (const int64_t out_dim : dims) {
        for (const bool transposed : {false, true}) {
          ++turn;
          const auto flag = [&](int bit) { return (turn >> bit & 1) != 0; };
          const auto precision = flag(0) ? Precision::kHighest : Precision::kDefault;
          const LinearCase is = {5,          in_dim,        out_dim,  {flag(1), flag(2)},
                                 transposed, turn % 4 == 0, precision};
          check_case<T>(launcher, type, is);
          if (turn % 3 == 0) check_case<T>(launcher, type, is, true);
        }
      }
    }
    for (const bool by_node : {false, true}) {
      for (const bool scatter : {false, true}) {
        const LinearCase is = {quick ? 3 : 9,      72, 24, {by_node, !by_node}, false, scatter,
                               Precision::kHighest};
        check_case<T>(launcher, type, is);
        check_case<T>(launcher, type, is, true);
      }
    }
    // So many that a block of the GPU goes through several, and through several runs of them.
    for (const int64_t tiles : {0, 1, 900, quick ? 1200 : 9000}) {
      const int64_t dim = tiles == 900 ? 72 : 8;
      check_case<T>(launcher, type,
                    {tiles, dim, 8, {true, false}, false, tiles == 900, Precision::kDefault});
    }
  });
}

}  // namespace jaxdirect::relational::checks
