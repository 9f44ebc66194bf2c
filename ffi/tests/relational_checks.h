#pragma once

// What the checks of the relational kernels share: random lists and tiles as a plan has them, and
// the same ones spoilt.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "checks.h"
#include "relational/lists.h"

namespace jaxdirect::relational::checks {

using namespace testing;
using Sizes = std::vector<int64_t>;
using Ints = std::vector<int32_t>;

// Calls body.template operator()<T>(type) for every type there are kernels for.
template <typename Body>
void for_each_type(const Body& body) {
  body.template operator()<float>(FloatType::kF32);
  body.template operator()<BFloat16>(FloatType::kBF16);
  body.template operator()<Half>(FloatType::kF16);
#ifndef JAXDIRECT_CUDA_MODULE
  body.template operator()<double>(FloatType::kF64);
#endif
}

// Sparse lists: some indices lead nowhere.
struct HostLists {
  Ints indptr, indices, items, heavy;
  int64_t num_partials = 0;

  int64_t rows() const { return static_cast<int64_t>(indptr.size()) - 1; }
  int64_t entries() const { return static_cast<int64_t>(indices.size()); }
};

// The most entries of an item, and of a slot.
inline constexpr int64_t kPiece = 64;
inline constexpr int64_t kItemRows = 32;

// Rows of random lengths, a few heavy; `padding` entries belong to no row.
HostLists random_lists(int64_t rows, int64_t most, int64_t targets, int64_t padding = 0);

struct HostTiles {
  Ints nodes, weight_of, weight_tiles, chunks, chunk_indptr;
  HostLists far;

  int64_t count() const { return static_cast<int64_t>(weight_of.size()); }
};

// Tiles whose slots have nodes of their own, in order; the last slots of some are padding.
HostTiles random_tiles(int64_t tiles, int64_t weights, int64_t targets);

// Replaces some numbers by ones that lead outside.
void spoil(Ints* numbers);
void spoil(HostLists* lists);
void spoil(HostTiles* tiles);

// A permutation of [0, count).
Ints permutation(int64_t count);

class DeviceLists {
 public:
  explicit DeviceLists(const HostLists& host)
      : indptr_(host.indptr), indices_(host.indices), items_(host.items), heavy_(host.heavy) {
    lists_.indptr = indptr_.data();
    lists_.indices = indices_.data();
    lists_.items = items_.data();
    lists_.heavy = heavy_.data();
    lists_.num_rows = host.rows();
    lists_.num_entries = host.entries();
    lists_.num_items = static_cast<int64_t>(host.items.size()) / 4;
    lists_.num_heavy = static_cast<int64_t>(host.heavy.size()) / 3;
    lists_.num_partials = host.num_partials;
  }

  const Lists& lists() const { return lists_; }

 private:
  Buffer<int32_t> indptr_, indices_, items_, heavy_;
  Lists lists_;
};

// The same with what leads outside: only what it touches is checked.
template <typename T, typename U = float, typename Launch>
void run_spoilt(Launcher& launcher, const char* what, int64_t first_count, int64_t second_count,
                const Launch& launch) {
  Guarded<T> first(first_count);
  Guarded<U> second(second_count);
  const Status status = launch(launcher.context(1), first.data(), second.data());
  expect(status.is_ok(), what, status.message());
  launcher.wait();
  first.read(what);
  second.read(what);
}

void check_linear(Launcher& launcher, bool quick);
void check_outer(Launcher& launcher, bool quick);
void check_sum(Launcher& launcher, bool quick);
void check_attention(Launcher& launcher, bool quick);
void check_attention_backward(Launcher& launcher, bool quick);
void check_softmax(Launcher& launcher, bool quick);
void check_largest(Launcher& launcher, bool quick);

}  // namespace jaxdirect::relational::checks
