#include "relational/outer.h"
#include "relational_checks.h"

namespace jaxdirect::relational::checks {
namespace {

struct OuterCase {
  int64_t tiles;
  int64_t weights;
  int64_t a_dim;
  int64_t b_dim;
  bool by_node[4];  // a of the first tiles and the others, b of them
  Precision precision;
};

// One operand's two parts.
template <typename T>
struct Side {
  Side(int64_t slots, int64_t first_slots, int64_t dim, bool first_by_node, bool second_by_node)
      : dim(dim), by_node{first_by_node, second_by_node} {
    first_slot[1] = first_slots;
    for (const int part : {0, 1}) {
      const int64_t own = part == 0 ? first_slots : slots - first_slots;
      num_rows[part] = by_node[part] ? kNodes : own;
      data[part] = random_values<T>(num_rows[part] * dim);
    }
  }

  SlotRows rows(int part, Buffer<T>& buffer) const {
    return {buffer.data(), num_rows[part], by_node[part], first_slot[part]};
  }

  // A row, or null.
  const T* find(int part, int64_t slot, int64_t node) const {
    const int64_t row = by_node[part] ? node : slot - first_slot[part];
    if (node < 0 || row < 0 || row >= num_rows[part]) return nullptr;
    return data[part].data() + row * dim;
  }

  static constexpr int64_t kNodes = 200;
  int64_t dim;
  bool by_node[2];
  int64_t first_slot[2] = {0, 0};
  int64_t num_rows[2];
  std::vector<T> data[2];
};

template <typename T>
std::vector<Exact> multiply(const OuterCase& is, const HostTiles& tiles, int64_t num_first,
                            const Side<T>& a, const Side<T>& b) {
  std::vector<Exact> want(is.weights * is.a_dim * is.b_dim);
  for (int64_t slot = 0; slot < kTile * is.tiles; ++slot) {
    const int part = slot / kTile < num_first ? 0 : 1;
    const T* a_row = a.find(part, slot, tiles.nodes[slot]);
    const T* b_row = b.find(part, slot, tiles.nodes[slot]);
    if (a_row == nullptr || b_row == nullptr) continue;
    Exact* to = want.data() + tiles.weight_of[slot / kTile] * is.a_dim * is.b_dim;
    for (int64_t i = 0; i < is.a_dim; ++i) {
      for (int64_t j = 0; j < is.b_dim; ++j) {
        to[i * is.b_dim + j].add(widen(a_row[i]), widen(b_row[j]));
      }
    }
  }
  return want;
}

template <typename T>
void check_case(Launcher& launcher, FloatType type, const OuterCase& is, bool spoilt = false) {
  HostTiles tiles = random_tiles(is.tiles, is.weights, 10);
  const int64_t num_first = uniform(0, is.tiles);
  const int64_t slots = kTile * is.tiles;
  const Side<T> a(slots, num_first * kTile, is.a_dim, is.by_node[0], is.by_node[1]);
  const Side<T> b(slots, num_first * kTile, is.b_dim, is.by_node[2], is.by_node[3]);
  if (spoilt) spoil(&tiles);

  Buffer<T> a_first(a.data[0]);
  Buffer<T> a_second(a.data[1]);
  Buffer<T> b_first(b.data[0]);
  Buffer<T> b_second(b.data[1]);
  Buffer<int32_t> nodes(tiles.nodes);
  Buffer<int32_t> weight_tiles(tiles.weight_tiles);
  Buffer<int32_t> chunks(tiles.chunks);
  Buffer<int32_t> chunk_indptr(tiles.chunk_indptr);
  OuterArgs args;
  args.a[0] = a.rows(0, a_first);
  args.a[1] = a.rows(1, a_second);
  args.b[0] = b.rows(0, b_first);
  args.b[1] = b.rows(1, b_second);
  args.a_dim = is.a_dim;
  args.b_dim = is.b_dim;
  args.num_first = num_first;
  args.num_tiles = is.tiles;
  args.nodes = nodes.data();
  args.weight_tiles = weight_tiles.data();
  args.chunks = chunks.data();
  args.num_chunks = static_cast<int64_t>(tiles.chunks.size()) / 3;
  args.chunk_indptr = chunk_indptr.data();
  args.num_weights = is.weights;
  args.type = type;
  args.precision = is.precision;
  Buffer<float> partials(std::vector<float>(args.num_chunks * is.a_dim * is.b_dim));
  args.partials = partials.data();
  const auto launch = [&](Context context, T* out, float*) {
    OuterArgs with = args;
    with.out = out;
    return outer(context, with);
  };
  const int64_t size = is.weights * is.a_dim * is.b_dim;
  if (spoilt) return run_spoilt<T>(launcher, "outer", size, 0, launch);
  const auto got = run<T>(launcher, "outer", size, 0, launch).first;
  const auto want = multiply(is, tiles, num_first, a, b);
  double loose = 0;
#ifdef JAXDIRECT_CUDA_MODULE  // tensor cores round float32 to 11 bits unless told otherwise
  if (type == FloatType::kF32) loose = is.precision == Precision::kHighest ? 64 : 0x1p14;
#endif
  for (int64_t i = 0; i < size; ++i) {
    if (is_close(got[i], want[i], loose)) continue;
    return expect(false, "outer",
                  join("element ", i, " of ", is.weights, " x ", is.a_dim, " x ", is.b_dim,
                       ", type ", static_cast<int>(type)));
  }
}

}  // namespace

void check_outer(Launcher& launcher, bool quick) {
  const Sizes dims = quick ? Sizes{17, 64} : Sizes{1, 3, 8, 17, 64, 72, 130};
  for_each_type([&]<typename T>(FloatType type) {
    int turn = 0;
    for (const int64_t a_dim : dims) {
      for (const int64_t b_dim : dims) {
        ++turn;
        const auto flag = [&](int bit) { return (turn >> bit & 1) != 0; };
        const OuterCase is = {5,
                              3,
                              a_dim,
                              b_dim,
                              {flag(0), flag(1), flag(2), flag(0)},
                              flag(1) ? Precision::kHighest : Precision::kDefault};
        check_case<T>(launcher, type, is);
        if (turn % 3 == 0) check_case<T>(launcher, type, is, true);
      }
    }
    const int64_t many = quick ? 9 : 150;  // chunks of several weights
    check_case<T>(launcher, type, {many, 2, 24, 8, {true, false, false, true}, {}});
    check_case<T>(launcher, type, {many, 40, 8, 24, {true, true, false, false}, {}});
    check_case<T>(launcher, type, {many, 40, 8, 24, {true, true, false, false}, {}}, true);
    check_case<T>(launcher, type, {0, 2, 8, 8, {true, true, true, true}, {}});
    check_case<T>(launcher, type, {1, 1, 8, 8, {false, false, false, false}, {}});
  });
}

}  // namespace jaxdirect::relational::checks
