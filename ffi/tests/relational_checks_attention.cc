#include "relational/attention.h"
#include "relational_checks.h"

namespace jaxdirect::relational::checks {
namespace {

struct AttentionCase {
  Score score;
  int64_t rows;    // nodes, or slots in the backward
  int64_t most;    // entries of a row
  int64_t others;  // slots, or nodes in the backward
  int64_t head_columns;
  int64_t heads;

  int64_t columns() const { return heads * head_columns; }
  int64_t width() const {
    const int64_t used = score == Score::kDot ? 2 * columns() : columns() + heads;
    return (used + 15) / 16 * 16;
  }
  int64_t query_width() const { return score == Score::kDot ? columns() : (heads + 7) / 8 * 8; }
};

std::string describe(const AttentionCase& is, FloatType type) {
  return join(is.score == Score::kDot ? "dot, " : "additive, ", is.rows, " rows of up to ", is.most,
              " entries, ", is.heads, " heads of ", is.head_columns, ", type ",
              static_cast<int>(type));
}

constexpr float kSlope = 0.25f;

// One edge's score before the rectifier, and after.
template <typename T>
std::pair<double, double> score_of(const AttentionCase& is, const T* row, const T* query,
                                   int64_t head) {
  double score = 0;
  if (is.score == Score::kDot) {
    for (int64_t c = head * is.head_columns; c < (head + 1) * is.head_columns; ++c) {
      score += widen(row[c]) * widen(query[c]);
    }
    return {score, score};
  }
  score = widen(row[is.columns() + head]) + widen(query[head]);
  return {score, score > 0 ? score : score * kSlope};
}

// Scores are sums in float32 at best, and an exponential makes their errors relative ones.
template <typename T>
bool is_near(double got, const Exact& want, double out_spacing) {
  const double tolerance = out_spacing * std::fabs(want.value) +
                           2000 * spacing<SumType<T>>() * (want.magnitude + 1e-3) +
                           (sizeof(T) == 8 ? spacing<float>() * want.magnitude : 0);
  return std::fabs(got - want.value) <= tolerance;
}

template <typename T>
void check_forward(Launcher& launcher, FloatType type, const AttentionCase& is, bool spoilt) {
  HostLists host = random_lists(is.rows, is.most, is.others, uniform(0, 3));
  const bool dot = is.score == Score::kDot;
  const int64_t num_queries = dot ? is.rows : 30;
  Ints query_rows(host.entries());
  for (int32_t& row : query_rows) row = static_cast<int32_t>(uniform(-1, num_queries));
  if (spoilt) {
    spoil(&host);
    spoil(&query_rows);
  }
  const auto rows = random_values<T>(is.others * is.width(), 2);
  const auto queries = random_values<T>(num_queries * is.query_width(), 2);
  DeviceLists lists(host);
  Buffer<T> rows_buffer(rows);
  Buffer<T> queries_buffer(queries);
  Buffer<int32_t> query_rows_buffer(query_rows);
  Buffer<float> partials(
      std::vector<float>(host.num_partials * partial_width(is.columns(), is.heads)));
  AttentionArgs args;
  args.score = is.score;
  args.heads = is.heads;
  args.columns = is.columns();
  args.rows = rows_buffer.data();
  args.num_slots = is.others;
  args.width = is.width();
  args.queries = queries_buffer.data();
  args.num_queries = num_queries;
  args.query_width = is.query_width();
  if (!dot) args.query_rows = query_rows_buffer.data();
  args.lists = lists.lists();
  args.negative_slope = kSlope;
  args.type = type;
  args.partials = partials.data();
  const auto launch = [&](Context context, T* out, float* log_sum_exp) {
    AttentionArgs with = args;
    with.out = out;
    with.log_sum_exp = log_sum_exp;
    return attention(context, with);
  };
  const int64_t out_size = is.rows * is.columns();
  const int64_t sum_size = is.rows * is.heads;
  if (spoilt) return run_spoilt<T>(launcher, "attention", out_size, sum_size, launch);
  const auto got = run<T>(launcher, "attention", out_size, sum_size, launch);

  for (int64_t i = 0; i < sum_size; ++i) {
    const int64_t node = i / is.heads;
    const int64_t head = i % is.heads;
    std::vector<std::pair<double, const T*>> edges;
    double largest = -std::numeric_limits<double>::infinity();
    for (int64_t e = host.indptr[node]; e < host.indptr[node + 1]; ++e) {
      const int64_t slot = host.indices[e];
      const int64_t query_row = dot ? node : query_rows[e];
      if (slot < 0 || query_row < 0 || query_row >= num_queries) continue;
      const T* row = rows.data() + slot * is.width();
      const T* query = queries.data() + query_row * is.query_width();
      edges.emplace_back(score_of(is, row, query, head).second, dot ? row + is.columns() : row);
      largest = std::max(largest, edges.back().first);
    }
    double total = 0;
    for (const auto& edge : edges) total += std::exp(edge.first - largest);
    Exact log_sum;
    if (total > 0) log_sum.add(largest + std::log(total));
    if (!is_near<float>(got.second[i], log_sum, 0)) {
      return expect(false, "attention's log-sum-exp", describe(is, type));
    }
    for (int64_t c = head * is.head_columns; c < (head + 1) * is.head_columns; ++c) {
      Exact want;
      for (const auto& [score, values] : edges) {
        want.add(widen(values[c]), std::exp(score - largest) / total);
      }
      if (is_near<T>(widen(got.first[node * is.columns() + c]), want, spacing<T>())) continue;
      return expect(false, "attention", join("node ", node, ": ", describe(is, type)));
    }
  }
}

template <typename T>
struct BackwardData {
  BackwardData(const AttentionCase& is, bool spoilt)
      : is(is), host(random_lists(is.rows, is.most, is.others, uniform(0, 3))) {
    dot = is.score == Score::kDot;
    edges = permutation(host.entries());
    num_queries = dot ? is.others : 30;
    for (int64_t e = 0; e < host.entries(); ++e) {
      query_rows.push_back(static_cast<int32_t>(uniform(-1, num_queries)));
    }
    // Exponentials of the products must fit 16 bits.
    const double scale = dot ? 2 / std::sqrt(static_cast<double>(is.head_columns)) : 1;
    rows = random_values<T>(is.rows * is.width(), scale);
    queries = random_values<T>(num_queries * is.query_width());
    cotangent = random_values<T>(is.others * is.columns());
    out = random_values<T>(is.others * is.columns());
    log_sum_exp = random_values<float>(is.others * is.heads);
    for (float& sum : log_sum_exp) sum += 2;  // it is above the scores
    if (spoilt) {
      spoil(&host);
      spoil(&edges);
      spoil(&query_rows);
    }
  }

  AttentionCase is;
  HostLists host;
  bool dot;
  int64_t num_queries;
  Ints edges, query_rows;
  std::vector<T> rows, queries, cotangent, out;
  std::vector<float> log_sum_exp;
};

template <typename T>
void compare(const BackwardData<T>& data, FloatType type, const Results<T, float>& got) {
  const AttentionCase& is = data.is;
  const int64_t heads = is.heads;
  const int64_t columns = is.columns();
  std::vector<Exact> score_grad(data.host.entries() * heads);
  std::vector<bool> is_set(data.host.entries());
  for (int64_t slot = 0; slot < is.rows; ++slot) {
    std::vector<Exact> want(is.width());
    const T* row = data.rows.data() + slot * is.width();
    for (int64_t e = data.host.indptr[slot]; e < data.host.indptr[slot + 1]; ++e) {
      const int64_t node = data.host.indices[e];
      const int64_t query_row = data.dot ? node : data.query_rows[e];
      if (node < 0 || query_row < 0 || query_row >= data.num_queries) continue;
      is_set[data.edges[e]] = true;
      const T* query = data.queries.data() + query_row * is.query_width();
      const T* above = data.cotangent.data() + node * columns;
      const T* out = data.out.data() + node * columns;
      for (int64_t h = 0; h < heads; ++h) {
        const auto [sum, score] = score_of(is, row, query, h);
        const double weight = std::exp(score - data.log_sum_exp[node * heads + h]);
        const double bend = data.dot || sum > 0 ? 1 : kSlope;
        Exact product;
        for (int64_t c = h * is.head_columns; c < (h + 1) * is.head_columns; ++c) {
          product.add(widen(above[c]), widen(row[data.dot ? columns + c : c]));
          product.add(widen(above[c]), -widen(out[c]));
        }
        const auto add_part = [&](Exact* to, double factor) {
          to->value += weight * product.value * bend * factor;
          to->magnitude += std::fabs(weight * product.magnitude * bend * factor);
        };
        add_part(&score_grad[data.edges[e] * heads + h], 1);
        if (!data.dot) add_part(&want[columns + h], 1);
        for (int64_t c = h * is.head_columns; c < (h + 1) * is.head_columns; ++c) {
          want[data.dot ? columns + c : c].add(widen(above[c]), weight);
          if (data.dot) add_part(&want[c], widen(query[c]));
        }
      }
    }
    for (int64_t c = 0; c < is.width(); ++c) {
      if (is_near<T>(widen(got.first[slot * is.width() + c]), want[c], spacing<T>())) continue;
      return expect(false, "attention_backward",
                    join("slot ", slot, " column ", c, ": ", describe(is, type)));
    }
  }
  for (size_t i = 0; i < score_grad.size(); ++i) {
    if (!is_set[i / heads]) continue;
    if (is_near<T>(got.second[i], score_grad[i], spacing<float>())) continue;
    return expect(false, "attention_backward's score_grad", describe(is, type));
  }
}

template <typename T>
void check_backward(Launcher& launcher, FloatType type, const AttentionCase& is, bool spoilt) {
  const BackwardData<T> data(is, spoilt);
  DeviceLists lists(data.host);
  Buffer<T> rows(data.rows);
  Buffer<T> queries(data.queries);
  Buffer<int32_t> query_rows(data.query_rows);
  Buffer<T> cotangent(data.cotangent);
  Buffer<T> out(data.out);
  Buffer<float> log_sum_exp(data.log_sum_exp);
  Buffer<float> stats(std::vector<float>(is.others * 2 * is.heads));
  Buffer<int32_t> edges(data.edges);
  AttentionBackwardArgs args;
  args.score = is.score;
  args.heads = is.heads;
  args.columns = is.columns();
  args.rows = rows.data();
  args.num_slots = is.rows;
  args.width = is.width();
  args.queries = queries.data();
  args.num_queries = data.num_queries;
  args.query_width = is.query_width();
  if (!data.dot) args.query_rows = query_rows.data();
  args.cotangent = cotangent.data();
  args.num_nodes = is.others;
  args.out = out.data();
  args.log_sum_exp = log_sum_exp.data();
  args.stats = stats.data();
  args.lists = lists.lists();
  args.edges = edges.data();
  args.negative_slope = kSlope;
  args.type = type;
  const auto launch = [&](Context context, T* rows_grad, float* score_grad) {
    AttentionBackwardArgs with = args;
    with.rows_grad = rows_grad;
    with.score_grad = score_grad;
    return attention_backward(context, with);
  };
  const int64_t rows_size = is.rows * is.width();
  const int64_t score_size = data.host.entries() * is.heads;
  if (spoilt) {
    run_spoilt<T>(launcher, "attention_backward", rows_size, score_size, launch);
  } else {
    compare(data, type, run<T>(launcher, "attention_backward", rows_size, score_size, launch));
  }
}

template <typename Check>
void check_cases(bool quick, int64_t heavy, const Check& check) {
#ifdef JAXDIRECT_CUDA_MODULE  // heads of other sizes are padded to these
  const Sizes head_columns = quick ? Sizes{8} : Sizes{8, 16, 64, 128, 256};
#else
  const Sizes head_columns = quick ? Sizes{8} : Sizes{1, 3, 4, 8, 17, 64, 130};
#endif
  for (const Score score : {Score::kAdditive, Score::kDot}) {
    for (const int64_t columns : head_columns) {
      for (const int64_t heads : quick ? Sizes{8} : Sizes{1, 2, 3, 8, 20}) {
        if (heads * columns > 600) continue;
        for (const bool spoilt : {false, true}) {
          check(AttentionCase{score, 60, std::min<int64_t>(heavy, 150), 40, columns, heads},
                spoilt);
        }
      }
    }
    check(AttentionCase{score, quick ? 5 : 20, heavy, 40, 8, 2}, false);
    check(AttentionCase{score, 1, 5, 4, 16, 2}, false);
    check(AttentionCase{score, 30, 0, 4, 16, 2}, false);   // no edges
    check(AttentionCase{score, 30, 20, 0, 16, 2}, false);  // nothing at the other end
    check(AttentionCase{score, 0, 0, 4, 16, 2}, false);
  }
}

}  // namespace

void check_attention(Launcher& launcher, bool quick) {
  for_each_type([&]<typename T>(FloatType type) {
    check_cases(quick, 5000, [&](const AttentionCase& is, bool spoilt) {
      check_forward<T>(launcher, type, is, spoilt);
    });
  });
}

// A slot has at most kPiece edges.
void check_attention_backward(Launcher& launcher, bool quick) {
  for_each_type([&]<typename T>(FloatType type) {
    check_cases(quick, kPiece, [&](const AttentionCase& is, bool spoilt) {
      check_backward<T>(launcher, type, is, spoilt);
    });
  });
}

}  // namespace jaxdirect::relational::checks
