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
  JAXDIRECT_RETURN_IF_ERROR(check_index_dtype(kOp, "indices", ids, &args->list.ids.is_64));
  if (rows.element_type() != table.element_type()) {
    return Status::error(kOp, ": the result must have the table's dtype");
  }
  if (attrs.order < 0 || attrs.order > 2) {
    return Status::error(kOp, ": order must be 0, 1 or 2, got ", attrs.order);
  }
  if (attrs.max_blocks < 0) {
    return Status::error(kOp, ": max_blocks must be 0 or more, got ", attrs.max_blocks);
  }

  args->list.num_rows = table.dimensions()[0];
  args->list.count = static_cast<int64_t>(ids.element_count());
  int64_t row_elements = 1;
  for (size_t axis = 1; axis < table.dimensions().size(); ++axis) {
    JAXDIRECT_RETURN_IF_ERROR(
        checked_product(kOp, row_elements, table.dimensions()[axis], &row_elements));
  }
  const int64_t element_bytes = static_cast<int64_t>(ffi::ByteWidth(table.element_type()));
  if (element_bytes == 0) return Status::error(kOp, ": table's dtype has no fixed byte width");
  int64_t table_bytes = 0;
  JAXDIRECT_RETURN_IF_ERROR(checked_product(kOp, row_elements, element_bytes, &args->row_bytes));
  JAXDIRECT_RETURN_IF_ERROR(
      checked_product(kOp, args->row_bytes, args->list.num_rows, &table_bytes));
  int64_t elements = 0;
  JAXDIRECT_RETURN_IF_ERROR(checked_product(kOp, args->list.count, row_elements, &elements));
  JAXDIRECT_RETURN_IF_ERROR(check_count(kOp, "the result", rows, elements));

  args->table = static_cast<const std::byte*>(table.untyped_data());
  args->list.ids.data = ids.untyped_data();
  args->rows = static_cast<std::byte*>(rows.untyped_data());
  args->fill[0] = static_cast<uint64_t>(attrs.fill_low);
  args->fill[1] = static_cast<uint64_t>(attrs.fill_high);
  args->order = static_cast<Order>(attrs.order);
  args->max_blocks = attrs.max_blocks;
  args->workspace = workspace.untyped_data();
  args->workspace_bytes = static_cast<int64_t>(workspace.size_bytes());
  return Status::ok();
}

// A row's place in the cache, and the cached rows themselves.
Status decode_cache(ffi::AnyBuffer table, ffi::AnyBuffer cache, ffi::AnyBuffer slots,
                    GatherArgs* args) {
  JAXDIRECT_RETURN_IF_ERROR(check_dtype(kOp, "slots", slots, ffi::DataType::S32, "int32"));
  JAXDIRECT_RETURN_IF_ERROR(check_count(kOp, "slots", slots, args->list.num_rows));
  JAXDIRECT_RETURN_IF_ERROR(check_rank(kOp, "cache", cache, table.dimensions().size()));
  const int64_t num_slots = cache.dimensions()[0];
  int64_t bytes = 0;
  JAXDIRECT_RETURN_IF_ERROR(checked_product(kOp, num_slots, args->row_bytes, &bytes));
  if (cache.element_type() != table.element_type() ||
      static_cast<int64_t>(cache.size_bytes()) != bytes) {
    return Status::error(kOp, ": cache must hold rows of the table, got shapes ", shape_of(cache),
                         " and ", shape_of(table));
  }
  args->cache = static_cast<const std::byte*>(cache.untyped_data());
  args->list.slots = static_cast<const int32_t*>(slots.untyped_data());
  args->list.num_slots = num_slots;
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

ffi::Error handle_cached(NativeContext context, ffi::AnyBuffer table, ffi::AnyBuffer cache,
                         ffi::AnyBuffer slots, ffi::AnyBuffer ids, ffi::Result<ffi::AnyBuffer> rows,
                         ffi::Result<ffi::AnyBuffer> workspace, GatherAttrs attrs) {
  GatherArgs args;
  Status status = decode(table, ids, *rows, *workspace, attrs, &args);
  if (status.is_ok()) status = decode_cache(table, cache, slots, &args);
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

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_hostmem_gather_cached, handle_cached,
                              ffi::Ffi::Bind()
                                  .Ctx<ContextBinding>()
                                  .Arg<ffi::AnyBuffer>()  // table
                                  .Arg<ffi::AnyBuffer>()  // cache
                                  .Arg<ffi::AnyBuffer>()  // slots
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
