#include "relational/sum.h"
#include "relational_checks.h"

namespace jaxdirect::relational::checks {
namespace {

struct SumCase {
  int64_t rows;
  int64_t most;
  int64_t num_values;
  int64_t columns;
  int64_t heads;  // 0: no weights
  bool spoilt;
};

template <typename T>
void check_sum_of(Launcher& launcher, FloatType type, const SumCase& is) {
  const int64_t heads = std::max<int64_t>(is.heads, 1);
  const int64_t first_column = uniform(0, 1) * 16;
  const int64_t width = first_column + is.columns + uniform(0, 1) * 8;
  HostLists host = random_lists(is.rows, is.most, is.num_values, uniform(0, 5));
  const int64_t num_weights = host.entries() + 3;
  Ints weight_rows(host.entries());
  for (int32_t& row : weight_rows) row = static_cast<int32_t>(uniform(-1, num_weights));
  if (is.spoilt) {
    spoil(&host);
    spoil(&weight_rows);
  }
  const auto values = random_values<T>(is.num_values * width);
  const auto weights = random_values<float>(is.heads == 0 ? 0 : num_weights * heads);
  const bool own = uniform(0, 1) == 0;
  const int64_t first_row = uniform(0, 2) == 0 ? uniform(0, is.rows) : 0;
  const int64_t num_out =
      uniform(0, 2) == 0 ? uniform(0, is.rows - first_row) : is.rows - first_row;

  DeviceLists lists(host);
  Buffer<T> values_buffer(values);
  Buffer<float> weights_buffer(weights);
  Buffer<int32_t> weight_rows_buffer(weight_rows);
  Buffer<float> partials(std::vector<float>(host.num_partials * is.columns));
  SumArgs args;
  args.values = values_buffer.data();
  args.num_values = is.num_values;
  args.width = width;
  args.first_column = first_column;
  args.columns = is.columns;
  args.lists = lists.lists();
  args.heads = heads;
  args.type = type;
  args.first_row = first_row;
  args.num_out = num_out;
  args.partials = partials.data();
  if (is.heads > 0) {
    args.weights = weights_buffer.data();
    args.num_weights = num_weights;
    if (!own) args.weight_rows = weight_rows_buffer.data();
  }
  const auto launch = [&](Context context, T* out, float*) {
    SumArgs with = args;
    with.out = out;
    return sum(context, with);
  };
  if (is.spoilt) return run_spoilt<T>(launcher, "sum", num_out * is.columns, 0, launch);
  const auto got = run<T>(launcher, "sum", num_out * is.columns, 0, launch).first;

  for (int64_t row = first_row; row < first_row + num_out; ++row) {
    for (int64_t column = 0; column < is.columns; ++column) {
      Exact want;
      for (int64_t e = host.indptr[row]; e < host.indptr[row + 1]; ++e) {
        const int64_t index = host.indices[e];
        if (index < 0) continue;
        double weight = 1.0;
        if (is.heads > 0) {
          const int64_t from = own ? e : weight_rows[e];
          if (from < 0 || from >= num_weights) continue;
          weight *= weights[from * heads + column * heads / is.columns];
        }
        want.add(widen(values[index * width + first_column + column]), weight);
      }
      if (is_close(got[(row - first_row) * is.columns + column], want)) continue;
      return expect(false, "sum",
                    join("row ", row, " column ", column, " of ", is.columns, ", ", is.heads,
                         " heads, type ", static_cast<int>(type)));
    }
  }
}

template <typename T>
void check_dot_of(Launcher& launcher, FloatType type, const SumCase& is) {
  HostLists host = random_lists(is.rows, is.most, is.num_values, uniform(0, 5));
  Ints weight_rows = permutation(host.entries());
  if (is.spoilt) {
    spoil(&host);
    spoil(&weight_rows);
  }
  const bool own = uniform(0, 1) == 0;
  const auto a = random_values<T>(is.rows * is.columns);
  const auto b = random_values<T>(is.num_values * is.columns);
  DeviceLists lists(host);
  Buffer<T> a_buffer(a);
  Buffer<T> b_buffer(b);
  Buffer<int32_t> weight_rows_buffer(weight_rows);
  DotArgs args;
  args.a = a_buffer.data();
  args.b = b_buffer.data();
  args.num_b = is.num_values;
  args.columns = is.columns;
  args.lists = lists.lists();
  args.heads = is.heads;
  args.type = type;
  if (!own) args.weight_rows = weight_rows_buffer.data();
  const int64_t size = host.entries() * is.heads;
  const auto launch = [&](Context context, float* out, float*) {
    DotArgs with = args;
    with.out = out;
    return dot(context, with);
  };
  if (is.spoilt) return run_spoilt<float>(launcher, "dot", size, 0, launch);
  const auto got = run<float>(launcher, "dot", size, 0, launch).first;

  std::vector<Exact> want(size);
  const int64_t head_columns = is.columns / is.heads;
  for (int64_t row = 0; row < is.rows; ++row) {
    for (int64_t e = host.indptr[row]; e < host.indptr[row + 1]; ++e) {
      const int64_t index = host.indices[e];
      if (index < 0) continue;
      for (int64_t c = 0; c < is.columns; ++c) {
        want[(own ? e : weight_rows[e]) * is.heads + c / head_columns].add(
            widen(a[row * is.columns + c]), widen(b[index * is.columns + c]));
      }
    }
  }
  for (int64_t i = 0; i < size; ++i) {
    if (is_close(got[i], want[i])) continue;
    return expect(false, "dot",
                  join("entry ", i / is.heads, ", ", is.columns, " columns, ", is.heads,
                       " heads, type ", static_cast<int>(type)));
  }
}

}  // namespace

void check_sum(Launcher& launcher, bool quick) {
  for_each_type([&]<typename T>(FloatType type) {
    for (const int64_t columns : quick ? Sizes{17, 64} : Sizes{1, 3, 8, 17, 64, 72, 130, 256}) {
      for (const int64_t heads : quick ? Sizes{0, 8} : Sizes{0, 1, 2, 3, 8, 64}) {
        if (heads > 0 && columns % heads != 0) continue;
        for (const bool spoilt : {false, true}) {
          const SumCase is = {100, 150, 50, columns, heads, spoilt};
          check_sum_of<T>(launcher, type, is);
          if (heads > 0) check_dot_of<T>(launcher, type, is);
        }
      }
    }
    for (const int64_t columns : {8, 130}) {
      check_sum_of<T>(launcher, type, {quick ? 5 : 40, 5000, 70, columns, 0, false});
      check_sum_of<T>(launcher, type, {1, 9, 3, columns, 2, false});
      check_sum_of<T>(launcher, type, {50, 0, 3, columns, 0, false});   // no entries
      check_sum_of<T>(launcher, type, {50, 20, 0, columns, 1, false});  // no values
      check_sum_of<T>(launcher, type, {0, 0, 7, columns, 0, false});
      check_dot_of<T>(launcher, type, {quick ? 5 : 40, 5000, 70, columns, 2, false});
      check_dot_of<T>(launcher, type, {50, 20, 0, columns, 1, false});
      check_dot_of<T>(launcher, type, {0, 0, 7, columns, 1, false});
    }
  });
}

}  // namespace jaxdirect::relational::checks
