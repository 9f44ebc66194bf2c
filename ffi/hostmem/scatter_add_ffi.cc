#include "common/handler.h"
#include "hostmem/scatter_add.h"

namespace jaxdirect::hostmem {
namespace {

constexpr const char* kOp = "scatter_add";

Status decode_type(ffi::DataType dtype, ScatterAddArgs* args) {
  switch (dtype) {
    case ffi::DataType::F16: args->type = FloatType::kF16; return Status::ok();
    case ffi::DataType::BF16: args->type = FloatType::kBF16; return Status::ok();
    case ffi::DataType::F32: args->type = FloatType::kF32; return Status::ok();
    case ffi::DataType::F64: args->type = FloatType::kF64; return Status::ok();
    default:
      return Status::error(kOp, ": rows must be float16, bfloat16, float32 or float64, got XLA type ",
                           static_cast<int>(dtype));
  }
}

Status decode(ffi::AnyBuffer rows, ffi::AnyBuffer ids, ffi::AnyBuffer table,
              ffi::AnyBuffer workspace, ScatterAddArgs* args) {
  JAXDIRECT_RETURN_IF_ERROR(check_rank(kOp, "ids", ids, 1));
  JAXDIRECT_RETURN_IF_ERROR(check_index_dtype(kOp, "ids", ids, &args->ids_64));
  if (rows.dimensions().size() < 1 || rows.dimensions()[0] != ids.dimensions()[0]) {
    return Status::error(kOp, ": rows must have one row for each of ", ids.dimensions()[0],
                         " ids, got shape ", shape_of(rows));
  }
  if (table.dimensions().size() != rows.dimensions().size() ||
      table.element_type() != rows.element_type()) {
    return Status::error(kOp, ": the result must have the rows' rank and dtype, got shape ",
                         shape_of(table));
  }
  args->count = ids.dimensions()[0];
  args->num_rows = table.dimensions()[0];
  args->columns = 1;
  for (size_t axis = 1; axis < rows.dimensions().size(); ++axis) {
    if (rows.dimensions()[axis] != table.dimensions()[axis]) {
      return Status::error(kOp, ": the result's rows must be like the operand's, got ",
                           shape_of(table), " for ", shape_of(rows));
    }
    JAXDIRECT_RETURN_IF_ERROR(
        checked_product(kOp, args->columns, rows.dimensions()[axis], &args->columns));
  }
  args->rows = rows.untyped_data();
  args->ids = ids.untyped_data();
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
