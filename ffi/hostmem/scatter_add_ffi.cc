#include "common/handler.h"
#include "hostmem/scatter_add.h"

namespace jaxdirect::hostmem {
namespace {

constexpr const char* kOp = "scatter_add";

Status decode_type(ffi::DataType dtype, ScatterAddArgs* args) {
  switch (dtype) {
    case ffi::DataType::F16:
      args->type = FloatType::kF16;
      return Status::ok();
    case ffi::DataType::BF16:
      args->type = FloatType::kBF16;
      return Status::ok();
    case ffi::DataType::F32:
      args->type = FloatType::kF32;
      return Status::ok();
    case ffi::DataType::F64:
      args->type = FloatType::kF64;
      return Status::ok();
    default:
      return Status::error(kOp,
                           ": rows must be float16, bfloat16, float32 or float64, got XLA type ",
                           static_cast<int>(dtype));
  }
}

Status decode(ffi::AnyBuffer rows, ffi::AnyBuffer ids, ffi::AnyBuffer table,
              ffi::AnyBuffer workspace, ScatterAddArgs* args) {
  JAXDIRECT_RETURN_IF_ERROR(check_index_dtype(kOp, "ids", ids, &args->list.ids.is_64));
  const size_t batch_rank = ids.dimensions().size();
  const size_t row_rank = table.dimensions().size() - 1;
  if (table.dimensions().size() < 1 || rows.dimensions().size() != batch_rank + row_rank ||
      table.element_type() != rows.element_type()) {
    return Status::error(kOp, ": rows must have the ids' axes, then the result's but the first, ",
                         "and its dtype, got shapes ", shape_of(rows), ", ", shape_of(ids), ", ",
                         shape_of(table));
  }
  args->list.num_rows = table.dimensions()[0];
  args->list.count = static_cast<int64_t>(ids.element_count());
  args->columns = 1;
  for (size_t axis = 0; axis < row_rank; ++axis) {
    JAXDIRECT_RETURN_IF_ERROR(
        checked_product(kOp, args->columns, table.dimensions()[axis + 1], &args->columns));
  }
  int64_t elements = 0;
  JAXDIRECT_RETURN_IF_ERROR(checked_product(kOp, args->list.count, args->columns, &elements));
  JAXDIRECT_RETURN_IF_ERROR(check_count(kOp, "rows", rows, elements));
  JAXDIRECT_RETURN_IF_ERROR(checked_product(kOp, args->list.num_rows, args->columns, &elements));
  JAXDIRECT_RETURN_IF_ERROR(check_count(kOp, "the result", table, elements));
  args->rows = rows.untyped_data();
  args->list.ids.data = ids.untyped_data();
  args->table = table.untyped_data();
  args->workspace = workspace.untyped_data();
  args->workspace_bytes = static_cast<int64_t>(workspace.size_bytes());
  return decode_type(rows.element_type(), args);
}

ffi::Error handle(NativeContext context, ffi::AnyBuffer rows, ffi::AnyBuffer ids,
                  ffi::Result<ffi::AnyBuffer> table, ffi::Result<ffi::AnyBuffer> workspace) {
  ScatterAddArgs args;
  Status status = decode(rows, ids, *table, *workspace, &args);
  if (status.is_ok()) status = scatter_add(to_context(context), args);
  return to_ffi(status);
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_hostmem_scatter_add, handle,
                              ffi::Ffi::Bind()
                                  .Ctx<ContextBinding>()
                                  .Arg<ffi::AnyBuffer>()   // rows
                                  .Arg<ffi::AnyBuffer>()   // ids
                                  .Ret<ffi::AnyBuffer>()   // table
                                  .Ret<ffi::AnyBuffer>(),  // workspace
                              kRecordable);

}  // namespace jaxdirect::hostmem
