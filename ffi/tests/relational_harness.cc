// The relational family's launch API against naive results in float64.

#include <cstdio>
#include <numeric>
#include <string_view>

#include "relational_checks.h"

namespace jaxdirect::relational::checks {
namespace {

// The division of rows into items that lists.h describes, of at most `piece` entries each.
void divide(int64_t piece, HostLists* lists) {
  const auto add_item = [&](int64_t row, int64_t begin, int64_t end, int64_t code) {
    for (const int64_t number : {row, begin, end, code}) {
      lists->items.push_back(static_cast<int32_t>(number));
    }
  };
  const Ints& indptr = lists->indptr;
  for (int64_t row = 0; row < lists->rows();) {
    const int64_t begin = indptr[row];
    if (indptr[row + 1] - begin > piece) {
      const int64_t first = lists->num_partials;
      for (int64_t at = begin; at < indptr[row + 1]; at += piece) {
        add_item(row, at, std::min<int64_t>(at + piece, indptr[row + 1]), ~lists->num_partials++);
      }
      for (const int64_t number : {row, first, lists->num_partials - first}) {
        lists->heavy.push_back(static_cast<int32_t>(number));
      }
      ++row;
      continue;
    }
    int64_t last = row + 1;
    while (last < lists->rows() && last - row < kItemRows && indptr[last + 1] - begin <= piece) {
      ++last;
    }
    add_item(row, begin, indptr[last], last - row);
    row = last;
  }
}

}  // namespace

HostLists random_lists(int64_t rows, int64_t most, int64_t targets, int64_t padding) {
  HostLists lists;
  lists.indptr.push_back(0);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t kind = most > 0 ? uniform(0, 9) : 0;
    const int64_t length = kind < 3 ? 0 : kind < 9 ? uniform(0, std::min<int64_t>(most, 12)) : most;
    lists.indptr.push_back(static_cast<int32_t>(lists.indptr.back() + length));
  }
  for (int64_t i = 0; i < lists.indptr.back(); ++i) {
    const bool astray = targets == 0 || uniform(0, 15) == 0;
    lists.indices.push_back(static_cast<int32_t>(astray ? -1 : uniform(0, targets - 1)));
  }
  lists.indices.insert(lists.indices.end(), padding, -1);
  divide(most > kPiece && uniform(0, 1) == 0 ? 8 : kPiece, &lists);
  return lists;
}

HostTiles random_tiles(int64_t tiles, int64_t weights, int64_t targets) {
  HostTiles host;
  int32_t node = 0;
  std::vector<int64_t> empty;  // slots without entries
  for (int64_t tile = 0; tile < tiles; ++tile) {
    host.weight_of.push_back(static_cast<int32_t>(uniform(0, weights - 1)));
    const int64_t filled = uniform(0, 2) > 0 ? kTile : uniform(0, kTile);
    for (int64_t i = 0; i < kTile; ++i) host.nodes.push_back(i < filled ? node++ : -1);
  }
  host.far = random_lists(kTile * tiles, kPiece, targets);
  host.chunk_indptr.push_back(0);
  for (int32_t weight = 0; weight < weights; ++weight) {
    const auto first = static_cast<int32_t>(host.weight_tiles.size());
    for (int32_t tile = 0; tile < tiles; ++tile) {
      if (host.weight_of[tile] == weight) host.weight_tiles.push_back(tile);
    }
    const auto end = static_cast<int32_t>(host.weight_tiles.size());
    for (int32_t begin = first; begin < end; begin += 4) {
      host.chunks.insert(host.chunks.end(), {weight, begin, std::min(begin + 4, end)});
    }
    host.chunk_indptr.push_back(static_cast<int32_t>(host.chunks.size() / 3));
  }
  return host;
}

void spoil(Ints* numbers) {
  constexpr int32_t kLeast = std::numeric_limits<int32_t>::min();
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
  for (int32_t& number : *numbers) {
    switch (uniform(0, 11)) {
      case 0:
        number = kLeast;
        break;
      case 1:
        number = kMost;
        break;
      case 2:
        number = -number - 1;
        break;
      case 3:
        number = static_cast<int32_t>(uniform(-100, 2000));
        break;
      default:
        break;
    }
  }
}

void spoil(HostLists* lists) {
  for (Ints* numbers : {&lists->indptr, &lists->indices, &lists->items, &lists->heavy}) {
    spoil(numbers);
  }
}

void spoil(HostTiles* tiles) {
  for (Ints* numbers : {&tiles->nodes, &tiles->weight_of, &tiles->weight_tiles, &tiles->chunks,
                        &tiles->chunk_indptr}) {
    spoil(numbers);
  }
  spoil(&tiles->far);
}

Ints permutation(int64_t count) {
  Ints numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0);
  std::shuffle(numbers.begin(), numbers.end(), random_bits);
  return numbers;
}

}  // namespace jaxdirect::relational::checks

// With the argument "quick" every kernel runs on a few sizes: racecheck is slow.
int main(int argc, char** argv) {
  namespace checks = jaxdirect::relational::checks;
  const bool quick = argc > 1 && std::string_view(argv[1]) == "quick";
  jaxdirect::testing::Launcher launcher;
  checks::check_sum(launcher, quick);
  checks::check_linear(launcher, quick);
  checks::check_outer(launcher, quick);
  checks::check_attention(launcher, quick);
  checks::check_attention_backward(launcher, quick);
  checks::check_softmax(launcher, quick);
  checks::check_largest(launcher, quick);
  if (jaxdirect::testing::failures > 0) return 1;
  std::puts("relational: all checks passed");
  return 0;
}
