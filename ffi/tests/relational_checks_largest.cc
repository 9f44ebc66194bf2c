#include "relational/largest.h"
#include "relational_checks.h"

namespace jaxdirect::relational::checks {
namespace {

struct LargestCase {
  int64_t rows;
  int64_t most;
  int64_t num_values;
  int64_t columns;
  int64_t heads;  // 0: no weights
  bool spoilt;
};

// Lists, values and weights of a case, on the host and where kernels see them.
template <typename T>
struct LargestData {
  explicit LargestData(const LargestCase& is)
      : is(is),
        host(random_lists(is.rows, is.most, is.num_values, uniform(0, 5))),
        heads(std::max<int64_t>(is.heads, 1)),
        num_weights(host.entries() + 3),
        weight_rows(host.entries()),
        edges(permutation(host.entries())),
        own(uniform(0, 1) == 0) {
    for (int32_t& row : weight_rows) row = static_cast<int32_t>(uniform(-1, num_weights));
    if (is.spoilt) {
      spoil(&host);
      spoil(&weight_rows);
      spoil(&edges);
    }
    values = random_values<T>(is.num_values * is.columns);
    weights = random_values<float>(is.heads == 0 ? 0 : num_weights * heads);
  }

  // An entry's factor for a column; false where it counts nothing.
  bool factor(int64_t entry, int64_t column, double* weight) const {
    *weight = 1;
    if (host.indices[entry] < 0) return false;
    if (is.heads == 0) return true;
    const int64_t row = own ? entry : weight_rows[entry];
    if (row < 0 || row >= num_weights) return false;
    *weight = weights[row * heads + column * heads / is.columns];
    return true;
  }

  EntryWeights entry_weights(Buffer<float>& data, Buffer<int32_t>& rows) const {
    EntryWeights result;
    result.heads = heads;
    if (is.heads == 0) return result;
    result.data = data.data();
    result.num_weights = num_weights;
    if (!own) result.rows = rows.data();
    return result;
  }

  LargestCase is;
  HostLists host;
  int64_t heads, num_weights;
  Ints weight_rows, edges;
  bool own;
  std::vector<T> values;
  std::vector<float> weights;
};

template <typename T>
void check_largest_of(Launcher& launcher, FloatType type, const LargestCase& is) {
  const LargestData<T> data(is);
  DeviceLists lists(data.host);
  Buffer<T> values(data.values);
  Buffer<float> weights(data.weights);
  Buffer<int32_t> weight_rows(data.weight_rows);
  Buffer<float> partials(std::vector<float>(data.host.num_partials * is.columns));
  Buffer<int32_t> partial_winners(Ints(data.host.num_partials * is.columns));
  LargestArgs args;
  args.values = values.data();
  args.num_values = is.num_values;
  args.columns = is.columns;
  args.lists = lists.lists();
  args.weights = data.entry_weights(weights, weight_rows);
  args.type = type;
  args.partials = partials.data();
  args.partial_winners = partial_winners.data();
  const auto launch = [&](Context context, T* out, int32_t* winners) {
    LargestArgs with = args;
    with.out = out;
    with.winners = winners;
    return largest(context, with);
  };
  const int64_t size = is.rows * is.columns;
  if (is.spoilt) return run_spoilt<T, int32_t>(launcher, "largest", size, size, launch);
  const auto got = run<T, int32_t>(launcher, "largest", size, size, launch);
  for (int64_t i = 0; i < size; ++i) {
    const int64_t column = i % is.columns;
    float best = 0;
    int64_t winner = -1;
    for (int64_t e = data.host.indptr[i / is.columns]; e < data.host.indptr[i / is.columns + 1];
         ++e) {
      double weight;
      if (!data.factor(e, column, &weight)) continue;
      const auto value = static_cast<float>(
          weight * widen(data.values[data.host.indices[e] * is.columns + column]));
      if (winner < 0 || value > best) {
        best = value;
        winner = e;
      }
    }
    if (got.second[i] == winner && widen(got.first[i]) == widen(narrow<T>(best))) continue;
    return expect(
        false, "largest",
        join("row ", i / is.columns, " column ", column, ", type ", static_cast<int>(type)));
  }
}

template <typename T>
void check_picked_sum_of(Launcher& launcher, FloatType type, const LargestCase& is) {
  const LargestData<T> data(is);
  Ints picks(is.num_values * is.columns);
  for (int32_t& pick : picks) pick = static_cast<int32_t>(uniform(-1, data.host.entries()));
  for (int64_t e = 0; e < data.host.entries(); e += 2) {  // or hardly any would match
    const int64_t index = data.host.indices[e];
    if (index < 0 || index >= is.num_values) continue;
    for (int64_t c = e % 3; c < is.columns; c += 2) picks[index * is.columns + c] = data.edges[e];
  }
  DeviceLists lists(data.host);
  Buffer<T> values(data.values);
  Buffer<int32_t> winners(picks);
  Buffer<int32_t> edges(data.edges);
  Buffer<float> weights(data.weights);
  Buffer<int32_t> weight_rows(data.weight_rows);
  Buffer<float> partials(std::vector<float>(data.host.num_partials * is.columns));
  PickedSumArgs args;
  args.values = values.data();
  args.winners = winners.data();
  args.num_values = is.num_values;
  args.columns = is.columns;
  args.lists = lists.lists();
  args.edges = edges.data();
  args.weights = data.entry_weights(weights, weight_rows);
  args.type = type;
  args.partials = partials.data();
  const auto launch = [&](Context context, T* out, float*) {
    PickedSumArgs with = args;
    with.out = out;
    return picked_sum(context, with);
  };
  const int64_t size = is.rows * is.columns;
  if (is.spoilt) return run_spoilt<T>(launcher, "picked_sum", size, 0, launch);
  const auto got = run<T>(launcher, "picked_sum", size, 0, launch).first;
  for (int64_t i = 0; i < size; ++i) {
    const int64_t row = i / is.columns;
    const int64_t column = i % is.columns;
    Exact want;
    for (int64_t e = data.host.indptr[row]; e < data.host.indptr[row + 1]; ++e) {
      double weight;
      if (!data.factor(e, column, &weight)) continue;
      const int64_t at = data.host.indices[e] * is.columns + column;
      if (picks[at] == data.edges[e]) want.add(widen(data.values[at]), weight);
    }
    if (is_close(got[i], want)) continue;
    return expect(false, "picked_sum",
                  join("row ", row, " column ", column, ", type ", static_cast<int>(type)));
  }
}

template <typename T>
void check_picked_dot_of(Launcher& launcher, FloatType type, const LargestCase& is) {
  const LargestData<T> data(is);
  const auto a = random_values<T>(is.rows * is.columns);
  Ints picks(is.rows * is.columns);
  for (int64_t i = 0; i < is.rows * is.columns; ++i) {
    const int64_t row = i / is.columns;
    const int64_t begin = is.spoilt ? -1 : data.host.indptr[row];
    const int64_t end = is.spoilt ? data.host.entries() : data.host.indptr[row + 1];
    picks[i] = static_cast<int32_t>(uniform(begin, std::max(begin, end)));
  }
  DeviceLists lists(data.host);
  Buffer<T> a_buffer(a);
  Buffer<T> b(data.values);
  Buffer<int32_t> winners(picks);
  Buffer<int32_t> to(data.edges);
  PickedDotArgs args;
  args.a = a_buffer.data();
  args.winners = winners.data();
  args.b = b.data();
  args.num_b = is.num_values;
  args.columns = is.columns;
  args.lists = lists.lists();
  if (!data.own) args.to = to.data();
  args.heads = data.heads;
  args.type = type;
  const int64_t size = data.host.entries() * data.heads;
  const auto launch = [&](Context context, float* out, float*) {
    PickedDotArgs with = args;
    with.out = out;
    return picked_dot(context, with);
  };
  if (is.spoilt) return run_spoilt<float>(launcher, "picked_dot", size, 0, launch);
  const auto got = run<float>(launcher, "picked_dot", size, 0, launch).first;
  std::vector<Exact> want(size);
  for (int64_t i = 0; i < is.rows * is.columns; ++i) {
    const int64_t row = i / is.columns;
    const int64_t e = picks[i];
    if (e < data.host.indptr[row] || e >= data.host.indptr[row + 1]) continue;
    if (data.host.indices[e] < 0) continue;
    const int64_t at = data.own ? e : data.edges[e];
    want[at * data.heads + i % is.columns * data.heads / is.columns].add(
        widen(a[i]), widen(data.values[data.host.indices[e] * is.columns + i % is.columns]));
  }
  for (int64_t i = 0; i < size; ++i) {
    if (is_close(got[i], want[i])) continue;
    return expect(false, "picked_dot",
                  join("entry ", i / data.heads, ", type ", static_cast<int>(type)));
  }
}

}  // namespace

void check_largest(Launcher& launcher, bool quick) {
  for_each_type([&]<typename T>(FloatType type) {
    const auto check = [&](const LargestCase& is) {
      check_largest_of<T>(launcher, type, is);
      check_picked_sum_of<T>(launcher, type, is);
      check_picked_dot_of<T>(launcher, type, is);
    };
    for (const int64_t columns : quick ? Sizes{17, 64} : Sizes{1, 3, 17, 64, 130}) {
      for (const int64_t heads : quick ? Sizes{0, 1} : Sizes{0, 1, 3, 8, 64}) {
        if (heads > 0 && columns % heads != 0) continue;
        for (const bool spoilt : {false, true}) check({60, 150, 50, columns, heads, spoilt});
      }
    }
    check({quick ? 5 : 20, 5000, 70, 34, 2, false});
    check({50, 0, 3, 8, 0, false});   // no entries
    check({50, 20, 0, 8, 1, false});  // no values
    check({0, 0, 7, 8, 1, false});
  });
}

}  // namespace jaxdirect::relational::checks
