#pragma once

// The checks of the conv kernels: fprop, dgrad and wgrad against one naive sum in float64.

#include <string>

#include "checks.h"
#include "conv/conv.h"
#include "conv/explicit.h"

namespace jaxdirect::conv::checks {

using namespace testing;

// Few bits, so that parts of a value are zeros; or all of them.
enum class Values { kShort, kNormal, kPositive };

struct ConvCase {
  Shape shape;
  Precision precision = Precision::kHighest;
  Values values = Values::kShort;
};

// A random geometry, small, of any kind that Shape allows.
ConvCase random_case();

// Runs the three passes.
void check_case(Launcher& launcher, FloatType type, const ConvCase& is);

// Geometries that take every path of the kernels.
void check_geometries(Launcher& launcher, bool quick);

}  // namespace jaxdirect::conv::checks
