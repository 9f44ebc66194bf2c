// The conv family's launch API against naive sums in float64.

#include <cstdio>
#include <string_view>

#include "conv_checks.h"

// With the argument "quick" every kernel runs on a few sizes: racecheck is slow.
int main(int argc, char** argv) {
  namespace checks = jaxdirect::conv::checks;
  const bool quick = argc > 1 && std::string_view(argv[1]) == "quick";
  jaxdirect::testing::Launcher launcher;
  checks::check_geometries(launcher, quick);
  checks::check_halo_tilings(quick);
#ifdef JAXDIRECT_CUDA_MODULE
  checks::check_halo_kernels(launcher, quick);
#endif
  if (jaxdirect::testing::failures > 0) return 1;
  std::puts("conv: all checks passed");
  return 0;
}
