#include "relational/linear.h"
#include "relational_checks.h"

namespace jaxdirect::relational::checks {
namespace {

struct LinearCase {
  int64_t tiles;
  int64_t in_dim;
  int64_t out_dim;
  RowSource first;
  RowSource second;
  bool transposed;
  bool bias;
  bool scatter;
  bool keep_summed;
  Precision precision;
};

std::string describe(const LinearCase& is, FloatType type) {
  return join(is.in_dim, " -> ", is.out_dim, ", sources ", static_cast<int>(is.first), " and ",
              static_cast<int>(is.second), is.transposed ? ", transposed" : "",
              is.scatter ? ", scattered" : "", ", type ", static_cast<int>(type));
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
    num_x = is.first == RowSource::kOwn || is.second == RowSource::kOwn ? kTile * is.tiles : kNodes;
    num_out = is.scatter ? kTile * is.tiles / 2 : kTile * is.tiles;
    x = random_values<T>(num_x * is.in_dim);
    weight = random_values<T>(kWeights * is.in_dim * is.out_dim);
    bias = random_values<T>(is.bias ? kWeights * is.out_dim : 0);
    scale = random_values<float>(tiles.far.entries());
    if (spoilt) spoil(&tiles);
  }

  bool reads_list(int64_t tile) const {
    return (tile < num_first ? is.first : is.second) == RowSource::kList;
  }

  int64_t summed_tiles() const {
    int64_t count = 0;
    for (int64_t tile = 0; tile < is.tiles; ++tile) count += reads_list(tile) ? 1 : 0;
    return count;
  }

  // Column k of the row that a slot's source gives.
  Exact row(int64_t slot, int64_t k) const {
    Exact want;
    const int64_t tile = slot / kTile;
    const RowSource source = tile < num_first ? is.first : is.second;
    if (source == RowSource::kList) {
      for (int64_t e = tiles.far.indptr[slot]; e < tiles.far.indptr[slot + 1]; ++e) {
        const int64_t index = tiles.far.indices[e];
        if (index >= 0) want.add(widen(x[index * is.in_dim + k]), scale[e]);
      }
      return want;
    }
    const int64_t index = source == RowSource::kOwn ? slot : tiles.nodes[slot];
    if (index >= 0 && index < num_x) want.add(widen(x[index * is.in_dim + k]));
    return want;
  }

  LinearCase is;
  HostTiles tiles;
  int64_t num_first, num_x, num_out;
  std::vector<T> x, weight, bias;
  std::vector<float> scale;
};

template <typename T>
void compare(const LinearData<T>& data, FloatType type, const Results<T, T>& got) {
  const LinearCase& is = data.is;
  std::vector<char> written(data.num_out, 0);
  int64_t summed_row = 0;
  for (int64_t slot = 0; slot < kTile * is.tiles; ++slot) {
    std::vector<Exact> row(is.in_dim);
    const bool list = data.reads_list(slot / kTile);
    for (int64_t k = 0; k < is.in_dim; ++k) row[k] = data.row(slot, k);
    if (list && is.keep_summed) {
      for (int64_t k = 0; k < is.in_dim; ++k) {
        if (is_close(got.second[summed_row * is.in_dim + k], row[k])) continue;
        return expect(false, "linear's summed rows", describe(is, type));
      }
      ++summed_row;
    }
    const int64_t node = data.tiles.nodes[slot];
    const int64_t to = is.scatter ? node : slot;
    if (to < 0 || to >= data.num_out) continue;
    written[to] = 1;
    const int64_t weight = data.tiles.weight_of[slot / kTile];
    const bool known = weight >= 0 && weight < data.kWeights;
    for (int64_t c = 0; c < is.out_dim; ++c) {
      Exact want;
      if (known && is.bias && node >= 0) want.add(widen(data.bias[weight * is.out_dim + c]));
      for (int64_t k = 0; k < is.in_dim && known; ++k) {
        const int64_t at = is.transposed ? c * is.in_dim + k : k * is.out_dim + c;
        const double factor = widen(data.weight[weight * is.in_dim * is.out_dim + at]);
        want.value += row[k].value * factor;
        want.magnitude += row[k].magnitude * std::fabs(factor);
      }
      // A list's sum is rounded before it is multiplied.
      const double loose = (list ? 1 : 0) + product_loss(type, is.precision);
      if (is_close(got.first[to * is.out_dim + c], want, loose)) continue;
      return expect(false, "linear", join("slot ", slot, " column ", c, ": ", describe(is, type)));
    }
  }
  for (int64_t i = 0; i < data.num_out * is.out_dim && is.scatter; ++i) {
    if (written[i / is.out_dim] != 0 || widen(got.first[i]) == 0) continue;
    return expect(false, "linear: a row without a slot is not zero", describe(is, type));
  }
}

template <typename T>
void check_case(Launcher& launcher, FloatType type, const LinearCase& is, bool spoilt = false) {
  const LinearData<T> data(is, spoilt);
  DeviceLists far(data.tiles.far);
  Buffer<int32_t> nodes(data.tiles.nodes);
  Buffer<int32_t> weight_of(data.tiles.weight_of);
  Buffer<T> x(data.x);
  Buffer<T> weight(data.weight);
  Buffer<T> bias(data.bias);
  Buffer<float> scale(data.scale);
  LinearArgs args;
  args.x = x.data();
  args.num_x = data.num_x;
  args.in_dim = is.in_dim;
  args.out_dim = is.out_dim;
  args.weight = weight.data();
  args.transposed = is.transposed;
  args.num_weights = data.kWeights;
  if (is.bias) args.bias = bias.data();
  args.weight_of = weight_of.data();
  args.num_tiles = is.tiles;
  args.nodes = nodes.data();
  args.far = far.lists();
  args.far_scale = scale.data();
  args.num_first = data.num_first;
  args.first = is.first;
  args.second = is.second;
  args.scatter = is.scatter;
  args.num_out = data.num_out;
  args.type = type;
  args.precision = is.precision;
  const auto launch = [&](Context context, T* out, T* summed) {
    LinearArgs with = args;
    with.out = out;
    if (is.keep_summed) with.summed = summed;
    return linear(context, with);
  };
  const int64_t out_size = data.num_out * is.out_dim;
  const int64_t summed_size = is.keep_summed ? data.summed_tiles() * kTile * is.in_dim : 0;
  if (spoilt) {
    run_spoilt<T, T>(launcher, "linear", out_size, summed_size, launch);
  } else {
    compare(data, type, run<T, T>(launcher, "linear", out_size, summed_size, launch));
  }
}

}  // namespace

void check_linear(Launcher& launcher, bool quick) {
  constexpr auto kNode = RowSource::kNode;
  constexpr auto kList = RowSource::kList;
  constexpr auto kOwn = RowSource::kOwn;
  constexpr std::pair<RowSource, RowSource> kSources[] = {
      {kNode, kList}, {kList, kNode}, {kList, kList}, {kOwn, kOwn}, {kNode, kNode}};
  const Sizes dims = quick ? Sizes{17, 64} : Sizes{1, 3, 8, 17, 64, 72, 130};
  for_each_type([&]<typename T>(FloatType type) {
    int turn = 0;
    for (const int64_t in_dim : dims) {
      for (const int64_t out_dim : dims) {
        for (const bool transposed : {false, true}) {
          const auto [first, second] = kSources[turn++ % 5];
          const auto precision = turn % 2 == 0 ? Precision::kDefault : Precision::kHighest;
          const LinearCase is = {
              5,          in_dim,        out_dim,       first,         second,
              transposed, turn % 3 == 0, turn % 4 == 0, turn % 3 != 1, precision};
          check_case<T>(launcher, type, is);
          if (turn % 3 == 0) check_case<T>(launcher, type, is, true);
        }
      }
    }
    for (const auto& [first, second] : kSources) {
      for (const bool scatter : {false, true}) {
        const LinearCase is = {quick ? 3 : 9, 72,   24,      first, second,
                               false,         true, scatter, true,  Precision::kHighest};
        check_case<T>(launcher, type, is);
        check_case<T>(launcher, type, is, true);
      }
    }
    for (const int64_t tiles : {0, 1}) {
      check_case<T>(launcher, type,
                    {tiles, 8, 8, kNode, kList, false, true, true, true, Precision::kDefault});
    }
  });
}

}  // namespace jaxdirect::relational::checks
