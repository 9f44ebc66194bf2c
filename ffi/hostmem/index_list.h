#pragma once

// Indices as they come from JAX: int32 or int64, told apart at run time.

#include <cstdint>

#include "common/host_device.h"

namespace jaxdirect::hostmem {

struct IndexList {
  const void* data = nullptr;
  bool is_64 = false;

  JAXDIRECT_HOST_DEVICE int64_t operator[](int64_t i) const {
    return is_64 ? static_cast<const int64_t*>(data)[i] : static_cast<const int32_t*>(data)[i];
  }
};

struct IndexRows {
  void* data = nullptr;
  bool is_64 = false;

  JAXDIRECT_HOST_DEVICE void set(int64_t i, int64_t value) const {
    if (is_64) {
      static_cast<int64_t*>(data)[i] = value;
    } else {
      static_cast<int32_t*>(data)[i] = static_cast<int32_t>(value);
    }
  }
};

// The rows that a call asks for, and which of them lie in the host table.
struct RowIds {
  IndexList ids;  // [count]
  int64_t count = 0;
  int64_t num_rows = 0;
  const int32_t* slots = nullptr;  // [num_rows]: the row's place in a cache on the device, or -1
  int64_t num_slots = 0;

  JAXDIRECT_HOST_DEVICE bool is_row(int64_t id) const { return id >= 0 && id < num_rows; }

  // The place of a row in the cache, or -1.
  JAXDIRECT_HOST_DEVICE int64_t slot_of(int64_t id) const {
    if (slots == nullptr) return -1;
    const int64_t slot = slots[id];
    return slot < num_slots ? slot : -1;
  }

  // Whether entry i is read from the table, and not filled or found in the cache.
  JAXDIRECT_HOST_DEVICE bool reads_table(int64_t i) const {
    const int64_t id = ids[i];
    return is_row(id) && slot_of(id) < 0;
  }
};

}  // namespace jaxdirect::hostmem
