// The hostmem family's launch API against naive results: every argument the kernels
// follow is tried out of range, unaligned, empty and odd.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "hostmem/gather.h"
#include "hostmem/sample.h"
#include "hostmem/scatter_add.h"
#include "launcher.h"

namespace jaxdirect::hostmem {
namespace {

using testing::Buffer;
using testing::expect;
using testing::Launcher;
using testing::Place;

std::mt19937_64 random_bits(0);

int64_t uniform(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random_bits);
}

template <typename... Parts>
std::string join(const Parts&... parts) {
  return Status::error(parts...).message();
}

void expect_ok(const Status& status, const char* what) {
  expect(status.is_ok(), what, status.message());
}

// Rows around [0, num_rows), some far outside.
template <typename Id>
std::vector<Id> random_ids(int64_t count, int64_t num_rows) {
  std::vector<Id> ids(count);
  for (Id& id : ids) id = static_cast<Id>(uniform(-2, num_rows + 1));
  if (count > 3) {
    ids[0] = std::numeric_limits<Id>::min();
    ids[1] = std::numeric_limits<Id>::max();
  }
  return ids;
}

// A table, some of whose rows have a place in a cache that holds other bytes.
struct GatherCase {
  int64_t num_rows;
  int64_t row_bytes;
  int64_t count;
  Order order;
  Place place;
  size_t offset;
  bool cached;
};

template <typename Id>
void check_gather(Launcher& launcher, const GatherCase& is) {
  const auto [num_rows, row_bytes, count, order, place, offset, cached] = is;
  const int64_t num_slots = cached ? num_rows / 2 : 0;
  std::vector<uint8_t> table(num_rows * row_bytes);
  std::vector<uint8_t> cache(num_slots * row_bytes);
  for (uint8_t& byte : table) byte = static_cast<uint8_t>(random_bits());
  for (uint8_t& byte : cache) byte = static_cast<uint8_t>(random_bits());
  std::vector<int32_t> slots(num_rows);  // some lead outside the cache
  for (int32_t& slot : slots) slot = static_cast<int32_t>(uniform(-num_slots - 1, num_slots));
  const std::vector<Id> ids = random_ids<Id>(count, num_rows);

  Buffer<uint8_t> table_buffer(table, place, offset);
  Buffer<uint8_t> cache_buffer(cache);
  Buffer<int32_t> slot_buffer(slots);
  Buffer<Id> id_buffer(ids);
  Buffer<uint8_t> rows(std::vector<uint8_t>(count * row_bytes, 0xee));
  Buffer<uint8_t> workspace(std::vector<uint8_t>(order_workspace_bytes(count)));
  GatherArgs args;
  args.table = reinterpret_cast<std::byte*>(table_buffer.data());
  args.row_bytes = row_bytes;
  args.list = {{id_buffer.data(), sizeof(Id) == 8}, count, num_rows};
  if (cached) {
    args.cache = reinterpret_cast<std::byte*>(cache_buffer.data());
    args.list.slots = slot_buffer.data();
    args.list.num_slots = num_slots;
  }
  args.rows = reinterpret_cast<std::byte*>(rows.data());
  args.fill[0] = args.fill[1] = 0x0707070707070707u;
  args.order = order;
  args.workspace = workspace.data();
  args.workspace_bytes = order_workspace_bytes(count);
  expect_ok(gather(launcher.context(), args), "gather");
  launcher.wait();

  const std::vector<uint8_t> got = rows.read();
  for (int64_t i = 0; i < count; ++i) {
    const bool valid = ids[i] >= 0 && ids[i] < num_rows;
    const int64_t slot = valid && cached ? slots[ids[i]] : -1;
    const bool hit = slot >= 0 && slot < num_slots;
    const uint8_t* row =
        hit ? cache.data() + slot * row_bytes : table.data() + (valid ? ids[i] * row_bytes : 0);
    for (int64_t byte = 0; byte < row_bytes; ++byte) {
      if (got[i * row_bytes + byte] == (valid ? row[byte] : 7)) continue;
      return expect(false, cached ? "gather, cached" : "gather",
                    join("row ", i, " byte ", byte, " of ", num_rows, " x ", row_bytes));
    }
  }
}

using Sizes = std::vector<int64_t>;

void check_gathers(Launcher& launcher, bool quick) {
  const Sizes all_rows = {1, 2, 4, 6, 16, 28, 64, 100, 128, 256, 400, 1172, 4096};
  for (const int64_t row_bytes : quick ? Sizes{100, 4096} : all_rows) {
    for (const int64_t num_rows : quick ? Sizes{1000} : Sizes{0, 1, 7, 1000}) {
      for (const int64_t count : quick ? Sizes{3001} : Sizes{0, 1, 5, 3001}) {
        for (const Order order : {Order::kGiven, Order::kSorted, Order::kAuto}) {
          for (const Place place : {Place::kHost, Place::kDevice}) {
            // Tables start at a multiple of their element; rows of 4k bytes may hold floats.
            const size_t offset = row_bytes % 4 == 0 ? 4 : row_bytes % 2 == 0 ? 2 : 1;
            for (const bool cached : {false, true}) {
              if (cached && place == Place::kDevice) continue;
              check_gather<int32_t>(launcher,
                                    {num_rows, row_bytes, count, order, place, 0, cached});
              check_gather<int64_t>(launcher,
                                    {num_rows, row_bytes, count, order, place, offset, cached});
            }
          }
        }
      }
    }
  }
}

template <typename Index, typename Edge>
void check_sample(Launcher& launcher, int64_t num_nodes, int64_t count, int64_t fanout,
                  bool replace, bool broken) {
  std::vector<Edge> indptr = {0};
  for (int64_t node = 0; node < num_nodes; ++node) {
    const int64_t degree = node % 5 == 0 ? 0 : node == 1 ? 5000 : uniform(1, 40);
    indptr.push_back(static_cast<Edge>(indptr.back() + degree));
  }
  const int64_t num_edges = indptr.back();
  std::vector<Index> indices(num_edges);
  for (Index& index : indices) index = static_cast<Index>(uniform(0, 1 << 30));
  if (broken) {  // lists that lead outside, backwards, and below zero
    for (Edge& entry : indptr) entry = static_cast<Edge>(uniform(-9, 2 * num_edges + 9));
  }
  const std::vector<Index> seeds = random_ids<Index>(count, num_nodes);
  std::vector<PhiloxKey> state(count);
  for (PhiloxKey& key : state) {
    key = {static_cast<uint32_t>(random_bits()), static_cast<uint32_t>(random_bits())};
  }

  Buffer<Edge> indptr_buffer(indptr, Place::kHost);
  Buffer<Index> indices_buffer(indices, Place::kHost);
  Buffer<Index> seed_buffer(seeds);
  Buffer<PhiloxKey> state_buffer(state);
  Buffer<Index> neighbors(std::vector<Index>(count * fanout, 123));
  Buffer<Edge> edges(std::vector<Edge>(count * fanout, 123));
  Buffer<int32_t> counts(std::vector<int32_t>(count, 123));
  Buffer<uint8_t> workspace(std::vector<uint8_t>(order_workspace_bytes(count)));
  SampleArgs args;
  args.indptr = {indptr_buffer.data(), sizeof(Edge) == 8};
  args.num_nodes = num_nodes;
  args.indices = {indices_buffer.data(), sizeof(Index) == 8};
  args.num_edges = num_edges;
  args.seeds = {seed_buffer.data(), sizeof(Index) == 8};
  args.state = state_buffer.data();
  args.count = count;
  args.fanout = fanout;
  args.replace = replace;
  args.neighbors = {neighbors.data(), sizeof(Index) == 8};
  args.edge_ids = {edges.data(), sizeof(Edge) == 8};
  args.counts = counts.data();
  args.workspace = workspace.data();
  args.workspace_bytes = order_workspace_bytes(count);
  expect_ok(sample_neighbors(launcher.context(), args), "sample_neighbors");
  launcher.wait();

  const auto got_neighbors = neighbors.read();
  const auto got_edges = edges.read();
  const auto got_counts = counts.read();
  for (int64_t i = 0; i < count; ++i) {
    const bool valid = seeds[i] >= 0 && seeds[i] < num_nodes;
    const int64_t start = valid ? indptr[seeds[i]] : 0;
    int64_t stop = valid ? indptr[seeds[i] + 1] : 0;
    if (start < 0 || stop < start || stop > num_edges) stop = start;
    const int64_t degree = stop - start;
    const int64_t want = degree == 0 ? 0 : replace ? fanout : std::min(degree, fanout);
    bool right = got_counts[i] == want;
    std::set<int64_t> distinct;
    for (int64_t j = 0; j < fanout; ++j) {
      const int64_t edge = got_edges[i * fanout + j];
      const int64_t neighbor = got_neighbors[i * fanout + j];
      if (j >= want) {
        right = right && edge == -1 && neighbor == -1;
      } else if (edge < start || edge >= stop) {
        right = false;
      } else {
        right = right && neighbor == indices[edge];
        distinct.insert(edge);
      }
    }
    if (!replace) right = right && static_cast<int64_t>(distinct.size()) == want;
    if (!right) {
      return expect(false, "sample_neighbors",
                    join("seed ", i, " of degree ", degree, ", fanout ", fanout));
    }
  }
}

void check_samples(Launcher& launcher, bool quick) {
  for (const int64_t fanout : quick ? Sizes{3, 300} : Sizes{1, 3, 10, 25, 64, 300}) {
    for (const int64_t count : quick ? Sizes{333} : Sizes{0, 1, 333}) {
      for (const bool replace : {false, true}) {
        for (const bool broken : {false, true}) {
          check_sample<int32_t, int32_t>(launcher, 200, count, fanout, replace, broken);
          check_sample<int64_t, int64_t>(launcher, 1, count, fanout, replace, broken);
          check_sample<int32_t, int64_t>(launcher, 77, count, fanout, replace, broken);
        }
      }
    }
  }
}

template <typename Id, typename Value>
void check_scatter(Launcher& launcher, FloatType type, int64_t num_rows, int64_t columns,
                   int64_t count) {
  std::vector<Value> rows(count * columns);
  for (Value& value : rows) value = static_cast<Value>(uniform(-8, 8));  // sums are exact
  const std::vector<Id> ids = random_ids<Id>(count, num_rows);
  Buffer<Value> row_buffer(rows);
  Buffer<Id> id_buffer(ids);
  Buffer<Value> table(std::vector<Value>(num_rows * columns, Value{99}));
  const int64_t workspace_bytes = scatter_workspace_bytes(count, columns);
  Buffer<uint8_t> workspace(std::vector<uint8_t>(static_cast<size_t>(workspace_bytes)));
  ScatterAddArgs args;
  args.rows = row_buffer.data();
  args.list = {{id_buffer.data(), sizeof(Id) == 8}, count, num_rows};
  args.columns = columns;
  args.type = type;
  args.table = table.data();
  args.workspace = workspace.data();
  args.workspace_bytes = workspace_bytes;
  expect_ok(scatter_add(launcher.context(), args), "scatter_add");
  launcher.wait();

  std::vector<Value> want(num_rows * columns, Value{0});
  for (int64_t i = 0; i < count; ++i) {
    if (ids[i] < 0 || ids[i] >= num_rows) continue;
    for (int64_t j = 0; j < columns; ++j) want[ids[i] * columns + j] += rows[i * columns + j];
  }
  expect(table.read() == want, "scatter_add", join(num_rows, " x ", columns, ", ", count, " rows"));
}

void check_scatters(Launcher& launcher, bool quick) {
  for (const int64_t num_rows : quick ? Sizes{1000} : Sizes{0, 1, 9, 1000}) {
    for (const int64_t columns : quick ? Sizes{64} : Sizes{0, 1, 7, 64, 301}) {
      for (const int64_t count : quick ? Sizes{2000} : Sizes{0, 1, 65, 2000}) {
        check_scatter<int32_t, float>(launcher, FloatType::kF32, num_rows, columns, count);
        check_scatter<int64_t, double>(launcher, FloatType::kF64, num_rows, columns, count);
      }
    }
  }
}

void check_plans() {
  for (const int64_t num_rows : {0L, 1L, 2L, 255L, 1L << 31, 1L << 40, 1L << 62}) {
    for (const int64_t count : {0L, 1L, 2L, 4096L, 1L << 22, 1L << 31}) {
      for (const Order order : {Order::kGiven, Order::kSorted, Order::kAuto}) {
        const OrderPlan plan = plan_order(order, true, num_rows, 128, count);
        if (plan.method == OrderPlan::Method::kGiven) continue;
        const int bits = plan.high_bit - plan.low_bit;
        const bool right = order != Order::kGiven && plan.low_bit >= 0 && bits > 0 && bits <= 32 &&
                           plan.min_reads >= 0 && plan.min_reads <= count;
        expect(
            right, "plan_order",
            join(num_rows, " rows, ", count, " ids: bits ", plan.low_bit, " to ", plan.high_bit));
      }
    }
  }
}

}  // namespace
}  // namespace jaxdirect::hostmem

// With the argument "quick" every kernel runs on a few sizes: racecheck is slow.
int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::string_view(argv[1]) == "quick";
  jaxdirect::testing::Launcher launcher;
  jaxdirect::hostmem::check_plans();
  jaxdirect::hostmem::check_gathers(launcher, quick);
  jaxdirect::hostmem::check_samples(launcher, quick);
  jaxdirect::hostmem::check_scatters(launcher, quick);
  if (jaxdirect::testing::failures > 0) return 1;
  std::puts("hostmem: all checks passed");
  return 0;
}
