#include "common/handler.h"
#include "hostmem/gather.h"

namespace jaxdirect::hostmem {

struct GatherAttrs {
  int64_t order;
  int64_t max_blocks;
  int64_t fill_low;  // the fill element's bytes, repeated to 16
  int64_t fill_high;
};

namespace {

constexpr const char* kOp = "gather";

Status decode(ffi::AnyBuffer table, ffi::AnyBuffer ids, ffi::AnyBuffer rows,
              ffi::AnyBuffer workspace, const GatherAttrs& attrs, GatherArgs* args) {
  if (table.dimensions().size() < 1) {
    return Status::error(kOp, ": table must have rank 1 or more, got a scalar");
  }
  JAXDIRECT_RETURN_IF_ERROR(check_index_dtype(kOp, "indices", ids, &args->ids_64));
  if (rows.element_type() != table.element_type()) {
    return Status::error(kOp, ": the result must have the table's dtype");
  }
  if (attrs.order < 0 || attrs.order > 2) {
    return Status::error(kOp, ": order must be 0, 1 or 2, got ", attrs.order);
  }
  if (attrs.max_blocks < 0) {
    return Status::error(kOp, ": max_blocks must be 0 or more, got ", attrs.max_blocks);
  }

  args->num_rows = table.dimensions()[0];
  args->count = static_cast<int64_t>(ids.element_count());
  int64_t row_elements = 1;
  for (size_t axis = 1; axis < table.dimensions().size(); ++axis) {
    JAXDIRECT_RETURN_IF_ERROR(
        checked_product(kOp, row_elements, table.dimensions()[axis], &row_elements));
  }
  const int64_t element_bytes = static_cast<int64_t>(ffi::ByteWidth(table.element_type()));
  if (element_bytes == 0) return Status::error(kOp, ": table's dtype has no fixed byte width");
  int64_t table_bytes = 0;
  JAXDIRECT_RETURN_IF_ERROR(checked_product(kOp, row_elements, element_bytes, &args->row_bytes));
  JAXDIRECT_RETURN_IF_ERROR(checked_product(kOp, args->row_bytes, args->num_rows, &table_bytes));
  int64_t elements = 0;
  JAXDIRECT_RETURN_IF_ERROR(checked_product(kOp, args->count, row_elements, &elements));
  JAXDIRECT_RETURN_IF_ERROR(check_count(kOp, "the result", rows, elements));

  args->table = static_cast<const std::byte*>(table.untyped_data());
  args->ids = ids.untyped_data();
  args->rows = static_cast<std::byte*>(rows.untyped_data());
  args->fill[0] = static_cast<uint64_t>(attrs.fill_low);
  args->fill[1] = static_cast<uint64_t>(attrs.fill_high);
  args->order = static_cast<Order>(attrs.order);
  args->max_blocks = attrs.max_blocks;
  args->workspace = workspace.untyped_data();
  args->workspace_bytes = static_cast<int64_t>(workspace.size_bytes());
  return Status::ok();
}

ffi::Error handle(NativeContext context, ffi::AnyBuffer table, ffi::AnyBuffer ids,
                  ffi::Result<ffi::AnyBuffer> rows, ffi::Result<ffi::AnyBuffer> workspace,
                  GatherAttrs attrs) {
  GatherArgs args;
  Status status = decode(table, ids, *rows, *workspace, attrs, &args);
  if (status.is_ok()) status = gather(to_context(context), args);
  return to_ffi(status);
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_hostmem_gather, handle,
                              ffi::Ffi::Bind()
                                  .Ctx<ContextBinding>()
                                  .Arg<ffi::AnyBuffer>()  // table
                                  .Arg<ffi::AnyBuffer>()  // indices
                                  .Ret<ffi::AnyBuffer>()  // rows
                                  .Ret<ffi::AnyBuffer>()  // workspace
                                  .Attrs<GatherAttrs>(),
                              kRecordable);

}  // namespace jaxdirect::hostmem

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(jaxdirect::hostmem::GatherAttrs,
                                      xla::ffi::StructMember<int64_t>("order"),
                                      xla::ffi::StructMember<int64_t>("max_blocks"),
                                      xla::ffi::StructMember<int64_t>("fill_low"),
                                      xla::ffi::StructMember<int64_t>("fill_high"));
