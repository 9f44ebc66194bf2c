#pragma once

// The conv family's FFI handlers. The CPU's general trio takes depthwise filters as well.

#include "common/registrations.h"

extern "C" {
XLA_FFI_Error* jaxdirect_conv_fprop(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_conv_dgrad(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_conv_wgrad(XLA_FFI_CallFrame* call_frame);
#ifdef JAXDIRECT_CUDA_MODULE
XLA_FFI_Error* jaxdirect_conv_depthwise_fprop(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_conv_depthwise_dgrad(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_conv_depthwise_wgrad(XLA_FFI_CallFrame* call_frame);
#endif
}

namespace jaxdirect::conv {

inline void add_handlers(nanobind::dict& handlers) {
  add_handler(handlers, "jaxdirect_conv_fprop", jaxdirect_conv_fprop);
  add_handler(handlers, "jaxdirect_conv_dgrad", jaxdirect_conv_dgrad);
  add_handler(handlers, "jaxdirect_conv_wgrad", jaxdirect_conv_wgrad);
#ifdef JAXDIRECT_CUDA_MODULE
  add_handler(handlers, "jaxdirect_conv_depthwise_fprop", jaxdirect_conv_depthwise_fprop);
  add_handler(handlers, "jaxdirect_conv_depthwise_dgrad", jaxdirect_conv_depthwise_dgrad);
  add_handler(handlers, "jaxdirect_conv_depthwise_wgrad", jaxdirect_conv_depthwise_wgrad);
#endif
}

}  // namespace jaxdirect::conv
