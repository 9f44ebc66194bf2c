#pragma once

// What Python asks before it traces a convolution; the same for every platform module.

#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>

#include <array>
#include <stdexcept>
#include <string>

#include "conv/conv.h"
#include "conv/explicit.h"

namespace jaxdirect::conv {

// (kernel, workspace bytes, microseconds) or None. `sizes`: N H W C, P Q K, R S; `window`:
// stride, low padding and dilation in h and w, groups.
inline nanobind::object plan(const std::string& op, const std::array<int64_t, 9>& sizes,
                             const std::array<int64_t, 7>& window, const std::string& type,
                             int64_t precision) {
  Shape s;
  s.batch = sizes[0], s.height = sizes[1], s.width = sizes[2], s.channels = sizes[3];
  s.out_height = sizes[4], s.out_width = sizes[5], s.out_channels = sizes[6];
  s.filter_height = sizes[7], s.filter_width = sizes[8];
  s.stride_h = window[0], s.stride_w = window[1], s.pad_h = window[2], s.pad_w = window[3];
  s.dilation_h = window[4], s.dilation_w = window[5], s.groups = window[6];
  const FloatType values = type == "float16"    ? FloatType::kF16
                           : type == "bfloat16" ? FloatType::kBF16
                                                : FloatType::kF32;
  const auto make = op == "fprop" ? plan_fprop : op == "dgrad" ? plan_dgrad : plan_wgrad;
  const Plan found = op == "im2win_explicit" ? plan_explicit(s, values)
                                             : make(s, values, static_cast<Precision>(precision));
  if (!found.covered) return nanobind::none();
  return nanobind::make_tuple(found.kernel, found.workspace_bytes, found.microseconds);
}

inline void add_plan(nanobind::module_& module) { module.def("conv_plan", &plan); }

}  // namespace jaxdirect::conv
