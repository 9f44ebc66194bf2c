#include "common/handler.h"
#include "hostmem/sample.h"

namespace jaxdirect::hostmem {

struct SampleAttrs {
  int64_t fanout;
  int64_t replace;
  int64_t order;
};

namespace {

constexpr const char* kOp = "sample_neighbors";

Status decode_list(const char* name, ffi::AnyBuffer buffer, IndexList* list) {
  JAXDIRECT_RETURN_IF_ERROR(check_rank(kOp, name, buffer, 1));
  JAXDIRECT_RETURN_IF_ERROR(check_index_dtype(kOp, name, buffer, &list->is_64));
  list->data = buffer.untyped_data();
  return Status::ok();
}

Status decode_rows(const char* name, ffi::AnyBuffer buffer, int64_t elements, IndexRows* rows) {
  JAXDIRECT_RETURN_IF_ERROR(check_index_dtype(kOp, name, buffer, &rows->is_64));
  JAXDIRECT_RETURN_IF_ERROR(check_count(kOp, name, buffer, elements));
  rows->data = buffer.untyped_data();
  return Status::ok();
}

struct Operands {
  ffi::AnyBuffer indptr, indices, seeds, state;
};

struct Outputs {
  ffi::AnyBuffer neighbors, edge_ids, counts, workspace;
};

Status decode(const Operands& in, const Outputs& out, const SampleAttrs& attrs, SampleArgs* args) {
  if (attrs.fanout < 1 || attrs.fanout > INT32_MAX) {
    return Status::error(kOp, ": fanout must be in [1, 2^31), got ", attrs.fanout);
  }
  if (attrs.order < 0 || attrs.order > 2) {
    return Status::error(kOp, ": order must be 0, 1 or 2, got ", attrs.order);
  }
  JAXDIRECT_RETURN_IF_ERROR(decode_list("indptr", in.indptr, &args->indptr));
  JAXDIRECT_RETURN_IF_ERROR(decode_list("indices", in.indices, &args->indices));
  JAXDIRECT_RETURN_IF_ERROR(decode_list("seeds", in.seeds, &args->seeds));
  if (in.indptr.dimensions()[0] < 1) {
    return Status::error(kOp, ": indptr must have one element or more, got none");
  }
  args->num_nodes = in.indptr.dimensions()[0] - 1;
  args->num_edges = in.indices.dimensions()[0];
  args->count = in.seeds.dimensions()[0];
  args->fanout = attrs.fanout;
  args->replace = attrs.replace != 0;
  args->order = static_cast<Order>(attrs.order);

  int64_t elements = 0;
  int64_t bytes = 0;  // of an int64 result: no offset in one may overflow
  JAXDIRECT_RETURN_IF_ERROR(checked_product(kOp, args->count, args->fanout, &elements));
  JAXDIRECT_RETURN_IF_ERROR(checked_product(kOp, elements, 8, &bytes));
  JAXDIRECT_RETURN_IF_ERROR(check_dtype(kOp, "state", in.state, ffi::DataType::U32, "uint32"));
  JAXDIRECT_RETURN_IF_ERROR(check_count(kOp, "state", in.state, 2 * args->count));
  JAXDIRECT_RETURN_IF_ERROR(decode_rows("neighbors", out.neighbors, elements, &args->neighbors));
  JAXDIRECT_RETURN_IF_ERROR(decode_rows("edge_ids", out.edge_ids, elements, &args->edge_ids));
  JAXDIRECT_RETURN_IF_ERROR(check_dtype(kOp, "counts", out.counts, ffi::DataType::S32, "int32"));
  JAXDIRECT_RETURN_IF_ERROR(check_count(kOp, "counts", out.counts, args->count));
  if (args->neighbors.is_64 != args->indices.is_64) {
    return Status::error(kOp, ": neighbors must have the dtype of indices");
  }
  if (!args->edge_ids.is_64 && args->num_edges > INT32_MAX) {
    return Status::error(kOp, ": edge_ids must be int64 for ", args->num_edges, " edges");
  }
  args->state = static_cast<const PhiloxKey*>(in.state.untyped_data());
  args->counts = static_cast<int32_t*>(out.counts.untyped_data());
  args->workspace = out.workspace.untyped_data();
  args->workspace_bytes = static_cast<int64_t>(out.workspace.size_bytes());
  return Status::ok();
}

ffi::Error handle(NativeContext context, ffi::AnyBuffer indptr, ffi::AnyBuffer indices,
                  ffi::AnyBuffer seeds, ffi::AnyBuffer state, ffi::Result<ffi::AnyBuffer> neighbors,
                  ffi::Result<ffi::AnyBuffer> edge_ids, ffi::Result<ffi::AnyBuffer> counts,
                  ffi::Result<ffi::AnyBuffer> workspace, SampleAttrs attrs) {
  SampleArgs args;
  Status status = decode({indptr, indices, seeds, state},
                         {*neighbors, *edge_ids, *counts, *workspace}, attrs, &args);
  if (status.is_ok()) status = sample_neighbors(to_context(context), args);
  return to_ffi(status);
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_hostmem_sample_neighbors, handle,
                              ffi::Ffi::Bind()
                                  .Ctx<ContextBinding>()
                                  .Arg<ffi::AnyBuffer>()  // indptr
                                  .Arg<ffi::AnyBuffer>()  // indices
                                  .Arg<ffi::AnyBuffer>()  // seeds
                                  .Arg<ffi::AnyBuffer>()  // state
                                  .Ret<ffi::AnyBuffer>()  // neighbors
                                  .Ret<ffi::AnyBuffer>()  // edge_ids
                                  .Ret<ffi::AnyBuffer>()  // counts
                                  .Ret<ffi::AnyBuffer>()  // workspace
                                  .Attrs<SampleAttrs>(),
                              kRecordable);

}  // namespace jaxdirect::hostmem

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(jaxdirect::hostmem::SampleAttrs,
                                      xla::ffi::StructMember<int64_t>("fanout"),
                                      xla::ffi::StructMember<int64_t>("replace"),
                                      xla::ffi::StructMember<int64_t>("order"));
