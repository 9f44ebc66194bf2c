#pragma once

// Convolution with one filter a channel (groups = C = K), on a GPU; see conv.h.

#include "conv/conv.h"

#ifdef JAXDIRECT_CUDA_MODULE

namespace jaxdirect::conv {

Status depthwise_fprop(cudaStream_t stream, const Args& args);
Status depthwise_dgrad(cudaStream_t stream, const Args& args);
Status depthwise_wgrad(cudaStream_t stream, const Args& args);

}  // namespace jaxdirect::conv

#endif
