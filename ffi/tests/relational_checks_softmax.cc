#include "relational/softmax.h"
#include "relational_checks.h"

namespace jaxdirect::relational::checks {
namespace {

struct SoftmaxCase {
  int64_t rows;
  int64_t most;
  int64_t heads;
  bool spoilt;
};

struct SoftmaxRows {
  explicit SoftmaxRows(const SoftmaxCase& is)
      : host(random_lists(is.rows, is.most, 5, uniform(0, 3))), edges(permutation(host.entries())) {
    if (is.spoilt) {
      spoil(&host);
      spoil(&edges);
    }
  }
  HostLists host;
  Ints edges;
};

template <typename T>
bool is_near(double got, const Exact& want) {
  return std::fabs(got - want.value) <= spacing<T>() * std::fabs(want.value) +
                                            500 * spacing<SumType<T>>() * want.magnitude +
                                            least<T>();
}

std::string describe(const SoftmaxCase& is, FloatType type) {
  return join(is.rows, " rows of up to ", is.most, " entries, ", is.heads, " heads, type ",
              static_cast<int>(type));
}

template <typename T>
void check_forward(Launcher& launcher, FloatType type, const SoftmaxCase& is) {
  const SoftmaxRows rows(is);
  auto logits = random_values<T>(rows.host.entries() * is.heads, 20);
  if (is.rows > 10) {  // a weight of nothing
    for (size_t i = 0; i < logits.size(); i += 7) {
      logits[i] = narrow<T>(-std::numeric_limits<double>::infinity());
    }
  }
  DeviceLists lists(rows.host);
  Buffer<int32_t> edges(rows.edges);
  Buffer<T> logits_buffer(logits);
  Buffer<float> partials(std::vector<float>(rows.host.num_partials * 2 * is.heads));
  SoftmaxArgs args;
  args.logits = logits_buffer.data();
  args.edges = edges.data();
  args.lists = lists.lists();
  args.heads = is.heads;
  args.type = type;
  args.partials = partials.data();
  const auto launch = [&](Context context, T* out, float*) {
    SoftmaxArgs with = args;
    with.out = out;
    return softmax(context, with);
  };
  const int64_t size = rows.host.entries() * is.heads;
  if (is.spoilt) return run_spoilt<T>(launcher, "softmax", size, 0, launch);
  const auto got = run<T>(launcher, "softmax", size, 0, launch).first;

  std::vector<Exact> want(size);
  for (int64_t row = 0; row < is.rows; ++row) {
    for (int64_t head = 0; head < is.heads; ++head) {
      const auto each = [&](const auto& body) {
        for (int64_t e = rows.host.indptr[row]; e < rows.host.indptr[row + 1]; ++e) {
          body(rows.edges[e] * is.heads + head);
        }
      };
      double largest = -std::numeric_limits<double>::infinity();
      double total = 0;
      each([&](int64_t i) { largest = std::max(largest, widen(logits[i])); });
      if (std::isinf(largest)) {  // zero here, not a number there
        each([&](int64_t i) { want[i].magnitude = std::numeric_limits<double>::infinity(); });
        continue;
      }
      each([&](int64_t i) { total += std::exp(widen(logits[i]) - largest); });
      each([&](int64_t i) { want[i].add(std::exp(widen(logits[i]) - largest) / total); });
    }
  }
  for (int64_t i = 0; i < size; ++i) {
    if (std::isinf(want[i].magnitude) || is_near<T>(widen(got[i]), want[i])) continue;
    return expect(false, "softmax", describe(is, type));
  }
}

template <typename T>
void check_backward(Launcher& launcher, FloatType type, const SoftmaxCase& is) {
  const SoftmaxRows rows(is);
  const int64_t size = rows.host.entries() * is.heads;
  const auto out = random_values<T>(size);
  const auto cotangent = random_values<T>(size);
  DeviceLists lists(rows.host);
  Buffer<int32_t> edges(rows.edges);
  Buffer<T> out_buffer(out);
  Buffer<T> cotangent_buffer(cotangent);
  Buffer<float> partials(std::vector<float>(rows.host.num_partials * is.heads));
  SoftmaxBackwardArgs args;
  args.out = out_buffer.data();
  args.cotangent = cotangent_buffer.data();
  args.edges = edges.data();
  args.lists = lists.lists();
  args.heads = is.heads;
  args.type = type;
  args.partials = partials.data();
  const auto launch = [&](Context context, T* grad, float*) {
    SoftmaxBackwardArgs with = args;
    with.grad = grad;
    return softmax_backward(context, with);
  };
  if (is.spoilt) return run_spoilt<T>(launcher, "softmax_backward", size, 0, launch);
  const auto got = run<T>(launcher, "softmax_backward", size, 0, launch).first;

  std::vector<Exact> want(size);
  for (int64_t row = 0; row < is.rows; ++row) {
    for (int64_t head = 0; head < is.heads; ++head) {
      Exact product;
      for (int64_t e = rows.host.indptr[row]; e < rows.host.indptr[row + 1]; ++e) {
        const int64_t i = rows.edges[e] * is.heads + head;
        product.add(widen(out[i]), widen(cotangent[i]));
      }
      for (int64_t e = rows.host.indptr[row]; e < rows.host.indptr[row + 1]; ++e) {
        const int64_t i = rows.edges[e] * is.heads + head;
        want[i].value = widen(out[i]) * (widen(cotangent[i]) - product.value);
        want[i].magnitude =
            std::fabs(widen(out[i])) * (std::fabs(widen(cotangent[i])) + product.magnitude);
      }
    }
  }
  for (int64_t i = 0; i < size; ++i) {
    if (is_near<T>(widen(got[i]), want[i])) continue;
    return expect(false, "softmax_backward", describe(is, type));
  }
}

}  // namespace

void check_softmax(Launcher& launcher, bool quick) {
  for_each_type([&]<typename T>(FloatType type) {
    const auto check = [&](const SoftmaxCase& is) {
      check_forward<T>(launcher, type, is);
      check_backward<T>(launcher, type, is);
    };
    for (const int64_t heads : quick ? Sizes{8} : Sizes{1, 2, 3, 8, 17, 40}) {
      for (const bool spoilt : {false, true}) check({100, 150, heads, spoilt});
      check({quick ? 5 : 30, 5000, heads, false});
      check({1, 7, heads, false});
      check({20, 0, heads, false});
      check({0, 0, heads, false});
    }
  });
}

}  // namespace jaxdirect::relational::checks
