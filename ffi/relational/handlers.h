#pragma once

// The relational family's FFI handlers, the same list for every platform module.

#include "common/registrations.h"

extern "C" {
XLA_FFI_Error* jaxdirect_relational_linear(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_relational_outer(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_relational_sum(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_relational_dot(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_relational_attention(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_relational_attention_backward(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_relational_softmax(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_relational_softmax_backward(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_relational_largest(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_relational_picked_sum(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_relational_picked_dot(XLA_FFI_CallFrame* call_frame);
}

namespace jaxdirect::relational {

inline void add_handlers(nanobind::dict& handlers) {
  add_handler(handlers, "jaxdirect_relational_linear", jaxdirect_relational_linear);
  add_handler(handlers, "jaxdirect_relational_outer", jaxdirect_relational_outer);
  add_handler(handlers, "jaxdirect_relational_sum", jaxdirect_relational_sum);
  add_handler(handlers, "jaxdirect_relational_dot", jaxdirect_relational_dot);
  add_handler(handlers, "jaxdirect_relational_attention", jaxdirect_relational_attention);
  add_handler(handlers, "jaxdirect_relational_attention_backward",
              jaxdirect_relational_attention_backward);
  add_handler(handlers, "jaxdirect_relational_softmax", jaxdirect_relational_softmax);
  add_handler(handlers, "jaxdirect_relational_softmax_backward",
              jaxdirect_relational_softmax_backward);
  add_handler(handlers, "jaxdirect_relational_largest", jaxdirect_relational_largest);
  add_handler(handlers, "jaxdirect_relational_picked_sum", jaxdirect_relational_picked_sum);
  add_handler(handlers, "jaxdirect_relational_picked_dot", jaxdirect_relational_picked_dot);
}

}  // namespace jaxdirect::relational
