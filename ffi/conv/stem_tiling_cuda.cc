#include "conv/stem.h"

namespace jaxdirect::conv {
namespace {

constexpr int kMostFilter = 16;  // rows or columns

}  // namespace

bool as_stem(const Shape& s, StemProblem* problem) {
  const bool is_small = s.filter_height <= kMostFilter && s.filter_width <= kMostFilter &&
                        s.stride_h <= 8 && s.stride_w <= 8;
  const bool is_dense = s.groups == 1 && s.dilation_h == 1 && s.dilation_w == 1;
  if (s.channels < 1 || s.channels > kStemChannels || s.out_channels % 8 != 0 || !is_small ||
      !is_dense || s.x_size() == 0 || s.y_size() == 0 || s.filter_size() == 0) {
    return false;
  }
  *problem = {static_cast<int>(s.batch),        static_cast<int>(s.height),
              static_cast<int>(s.width),        static_cast<int>(s.channels),
              static_cast<int>(s.out_height),   static_cast<int>(s.out_width),
              static_cast<int>(s.out_channels), static_cast<int>(s.filter_height),
              static_cast<int>(s.filter_width), static_cast<int>(s.stride_h),
              static_cast<int>(s.stride_w),     static_cast<int>(s.pad_h),
              static_cast<int>(s.pad_w)};
  return true;
}

}  // namespace jaxdirect::conv
