#pragma once

// The conv family's FFI handlers, the same list for every platform module.

#include "common/registrations.h"

extern "C" {
XLA_FFI_Error* jaxdirect_conv_fprop(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_conv_dgrad(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_conv_wgrad(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_conv_im2win_explicit(XLA_FFI_CallFrame* call_frame);
}

namespace jaxdirect::conv {

inline void add_handlers(nanobind::dict& handlers) {
  add_handler(handlers, "jaxdirect_conv_fprop", jaxdirect_conv_fprop);
  add_handler(handlers, "jaxdirect_conv_dgrad", jaxdirect_conv_dgrad);
  add_handler(handlers, "jaxdirect_conv_wgrad", jaxdirect_conv_wgrad);
  add_handler(handlers, "jaxdirect_conv_im2win_explicit", jaxdirect_conv_im2win_explicit);
}

}  // namespace jaxdirect::conv
