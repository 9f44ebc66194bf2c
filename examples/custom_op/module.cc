// The FFI handler and its pybind11 module. CMake compiles this file once for each
// platform; EXAMPLE_MODULE is the module's name.

#include <pybind11/pybind11.h>

#include "weighted_sum.h"

namespace example {
namespace {

namespace ffi = jaxdirect::ffi;
using jaxdirect::Status;

constexpr const char* kOp = "weighted_sum";

// The handler checks for itself: an exported program reaches it without Python.
Status decode(ffi::AnyBuffer table, ffi::AnyBuffer ids, ffi::AnyBuffer weights, ffi::AnyBuffer out,
              WeightedSumArgs* args) {
  JAXDIRECT_RETURN_IF_ERROR(jaxdirect::check_rank(kOp, "table", table, 2));
  JAXDIRECT_RETURN_IF_ERROR(jaxdirect::check_rank(kOp, "ids", ids, 2));
  JAXDIRECT_RETURN_IF_ERROR(jaxdirect::check_dtype(kOp, "table", table, ffi::F32, "float32"));
  JAXDIRECT_RETURN_IF_ERROR(jaxdirect::check_dtype(kOp, "ids", ids, ffi::S32, "int32"));
  JAXDIRECT_RETURN_IF_ERROR(jaxdirect::check_dtype(kOp, "weights", weights, ffi::F32, "float32"));
  JAXDIRECT_RETURN_IF_ERROR(jaxdirect::check_dtype(kOp, "the result", out, ffi::F32, "float32"));
  args->num_rows = table.dimensions()[0];
  args->dim = table.dimensions()[1];
  args->batch = ids.dimensions()[0];
  args->picks = ids.dimensions()[1];
  int64_t elements = 0;
  JAXDIRECT_RETURN_IF_ERROR(jaxdirect::checked_product(kOp, args->batch, args->dim, &elements));
  JAXDIRECT_RETURN_IF_ERROR(jaxdirect::check_count(kOp, "the result", out, elements));
  JAXDIRECT_RETURN_IF_ERROR(
      jaxdirect::check_count(kOp, "weights", weights, args->batch * args->picks));
  args->table = table.typed_data<float>();
  args->ids = ids.typed_data<int32_t>();
  args->weights = weights.typed_data<float>();
  args->out = out.typed_data<float>();
  return Status::ok();
}

ffi::Error handle(jaxdirect::NativeContext context, ffi::AnyBuffer table, ffi::AnyBuffer ids,
                  ffi::AnyBuffer weights, ffi::Result<ffi::AnyBuffer> out) {
  WeightedSumArgs args;
  Status status = decode(table, ids, weights, *out, &args);
  if (status.is_ok()) status = weighted_sum(jaxdirect::to_context(context), args);
  return jaxdirect::to_ffi(status);
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(weighted_sum_handler, handle,
                              ffi::Ffi::Bind()
                                  .Ctx<jaxdirect::ContextBinding>()
                                  .Arg<ffi::AnyBuffer>()   // table
                                  .Arg<ffi::AnyBuffer>()   // ids
                                  .Arg<ffi::AnyBuffer>()   // weights
                                  .Ret<ffi::AnyBuffer>(),  // out
                              jaxdirect::kRecordable);

}  // namespace
}  // namespace example

PYBIND11_MODULE(EXAMPLE_MODULE, m) {
  m.def("handler",
        [] { return pybind11::capsule(reinterpret_cast<void*>(example::weighted_sum_handler)); });
}
