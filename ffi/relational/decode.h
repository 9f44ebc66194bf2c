#pragma once

// What the relational handlers share: buffers to the plain structures of lists.h.
// An optional operand comes as an array without elements.

#include "common/float_type.h"
#include "common/handler.h"
#include "relational/lists.h"

namespace jaxdirect::relational {

// Checks one operation's buffers; the first complaint stays.
class Decoder {
 public:
  explicit Decoder(const char* op) : op_(op) {}

  const Status& status() const { return status_; }

  void require(bool holds, const char* name, const char* expected) {
    if (holds || !status_.is_ok()) return;
    status_ = Status::error(op_, ": ", name, " must be ", expected);
  }

  int64_t rows(ffi::AnyBuffer buffer) const {
    return buffer.dimensions().size() > 0 ? buffer.dimensions()[0] : 0;
  }

  int64_t columns(ffi::AnyBuffer buffer) const {
    return buffer.dimensions().size() > 1 ? buffer.dimensions()[buffer.dimensions().size() - 1] : 1;
  }

  // [rows, columns] of the operation's floating type; rows = -1: any number.
  const void* floats(const char* name, ffi::AnyBuffer buffer, int64_t rows, int64_t columns) {
    require_dtype(name, buffer, dtype_, "the first operand's dtype");
    require_count(name, buffer, rows < 0 ? this->rows(buffer) : rows, columns);
    return buffer.untyped_data();
  }

  const int32_t* ints(const char* name, ffi::AnyBuffer buffer, int64_t rows, int64_t columns = 1) {
    require_dtype(name, buffer, ffi::DataType::S32, "int32");
    require_count(name, buffer, rows < 0 ? this->rows(buffer) : rows, columns);
    return static_cast<const int32_t*>(buffer.untyped_data());
  }

  float* float32s(const char* name, ffi::AnyBuffer buffer, int64_t rows, int64_t columns) {
    require_dtype(name, buffer, ffi::DataType::F32, "float32");
    require_count(name, buffer, rows < 0 ? this->rows(buffer) : rows, columns);
    return static_cast<float*>(buffer.untyped_data());
  }

  FloatType float_type(const char* name, ffi::AnyBuffer buffer) {
    dtype_ = buffer.element_type();
    switch (dtype_) {
      case ffi::DataType::F16:
        return FloatType::kF16;
      case ffi::DataType::BF16:
        return FloatType::kBF16;
      case ffi::DataType::F32:
        return FloatType::kF32;
      case ffi::DataType::F64:
        return FloatType::kF64;
      default:
        require(false, name, "float16, bfloat16, float32 or float64");
        return FloatType::kF32;
    }
  }

  Lists lists(ffi::AnyBuffer indptr, ffi::AnyBuffer indices, ffi::AnyBuffer items,
              ffi::AnyBuffer heavy, int64_t num_partials) {
    Lists lists;
    require(rows(indptr) >= 1, "indptr", "[num_rows + 1]");
    lists.num_rows = rows(indptr) - 1;
    lists.num_entries = rows(indices);
    lists.num_items = rows(items);
    lists.num_heavy = rows(heavy);
    lists.num_partials = num_partials;
    require(num_partials >= 0 && num_partials <= lists.num_entries, "num_partials",
            "in [0, num_entries]");
    lists.indptr = ints("indptr", indptr, -1);
    lists.indices = ints("indices", indices, -1);
    lists.items = ints("items", items, -1, 4);
    lists.heavy = ints("heavy", heavy, -1, 3);
    return lists;
  }

 private:
  void require_dtype(const char* name, ffi::AnyBuffer buffer, ffi::DataType dtype,
                     const char* expected) {
    if (status_.is_ok()) status_ = check_dtype(op_, name, buffer, dtype, expected);
  }

  void require_count(const char* name, ffi::AnyBuffer buffer, int64_t rows, int64_t columns) {
    int64_t count = 0;
    if (status_.is_ok()) status_ = checked_product(op_, rows, columns, &count);
    if (status_.is_ok()) status_ = check_count(op_, name, buffer, count);
  }

  const char* op_;
  ffi::DataType dtype_ = ffi::DataType::F32;
  Status status_ = Status::ok();
};

}  // namespace jaxdirect::relational
