#pragma once

// Neighbours of each seed, picked at random from the seed's row of a CSR graph.
//
// Draw j of seed i is number j of the Philox stream that state[i] names. Without
// replacement, a list longer than the fanout is sampled by Floyd's algorithm: for
// m = degree - fanout + j, pick one of 0..m, and m itself where that is taken already.

#include <cstdint>

#include "common/status.h"
#include "hostmem/order.h"
#include "hostmem/philox.h"

#ifndef JAXDIRECT_CUDA_MODULE
#include "common/parallel.h"
#endif

namespace jaxdirect::hostmem {

struct SampleArgs {
  IndexList indptr;  // [num_nodes + 1]
  int64_t num_nodes = 0;
  IndexList indices;  // [num_edges]
  int64_t num_edges = 0;
  IndexList seeds;                   // [count]
  const PhiloxKey* state = nullptr;  // [count]
  int64_t count = 0;
  int64_t fanout = 0;
  bool replace = false;
  IndexRows neighbors;        // [count, fanout], of the type of indices, -1 past the count
  IndexRows edge_ids;         // [count, fanout], -1 past the count
  int32_t* counts = nullptr;  // [count]
  Order order = Order::kAuto;
  void* workspace = nullptr;
  int64_t workspace_bytes = 0;
};

// A seed's list: indices[start, start + degree).
struct NeighborList {
  int64_t start = 0;
  uint32_t degree = 0;
};

// The list that two neighbouring entries of indptr bound; empty where they lead outside.
JAXDIRECT_HOST_DEVICE inline NeighborList bounded_list(int64_t start, int64_t stop,
                                                       int64_t num_edges) {
  if (start < 0 || stop < start || stop > num_edges) return {};
  const int64_t degree = stop - start < INT32_MAX ? stop - start : INT32_MAX;
  return {start, static_cast<uint32_t>(degree)};
}

JAXDIRECT_HOST_DEVICE inline int32_t sample_count(uint32_t degree, int64_t fanout, bool replace) {
  if (degree == 0) return 0;
  return static_cast<int32_t>(replace || degree > fanout ? fanout : degree);
}

#ifdef JAXDIRECT_CUDA_MODULE
Status sample_neighbors(cudaStream_t stream, const SampleArgs& args);
#else
Status sample_neighbors(const Executor& executor, const SampleArgs& args);
#endif

}  // namespace jaxdirect::hostmem
