// Tilings of convolutions over halo tiles, whose kernels run on a GPU alone: where each product
// finds its operand must be the pixel that its window has there.

#include "conv/halo.h"
#include "conv_checks.h"

namespace jaxdirect::conv::checks {
namespace {

struct Pixel {
  int n, h, w;
  bool operator==(const Pixel&) const = default;
};

HaloProblem random_problem() {
  const auto draw = [](int64_t low, int64_t high) { return static_cast<int>(uniform(low, high)); };
  HaloProblem p;
  p.batch = draw(1, 130);
  p.in_height = draw(1, 40);
  p.in_width = draw(1, 40);
  p.in_channels = 8 * draw(1, 40);
  p.out_height = p.store_height = draw(1, 30);
  p.out_width = p.store_width = draw(1, 30);
  p.out_channels = 8 * draw(1, 40);
  p.stride_h = draw(1, 3);
  p.stride_w = draw(1, 4);
  p.origin_h = draw(-4, 2);
  p.origin_w = draw(-4, 2);
  p.taps_h = draw(1, 7);
  p.taps_w = draw(1, 7);
  p.tap_step_h = draw(1, 2);
  p.tap_step_w = draw(1, 3);
  p.filter_taps = p.taps_h * p.taps_w;
  return p;
}

// As fetch_halo puts a tile's pixels into planes: the pixel at a byte of a stage, from the halo's
// first.
Pixel pixel_at(const HaloTiling& t, int at) {
  const int plane = at / t.plane_bytes(), row = at % t.plane_bytes() / kChunkBytes;
  const int n = row % t.tile_images, place = row / t.tile_images;
  return {n, place / t.halo_width, place % t.halo_width * t.planes + plane};
}

// As halo_direct_kernel.cuh reads: row `row` of product `block` at tap (i, j).
int read_at(const HaloProblem& p, const HaloTiling& t, int block, int row, int i, int j) {
  const int across = t.tile_width / t.product_width;
  const int h = block / across * t.product_height * p.stride_h;
  const int w = block % across * t.product_width;
  const int column = j * p.tap_step_w;
  const int place = (h + i * p.tap_step_h) * t.halo_width + w + column / t.planes;
  return place * t.tile_images * kChunkBytes + column % t.planes * t.plane_bytes() +
         (row / 8 * t.group_step + row % 8) * kChunkBytes;
}

// The same pixel by the convolution's definition, from the halo's first.
Pixel wanted(const HaloProblem& p, const HaloTiling& t, int block, int row, int i, int j) {
  const int across = t.tile_width / t.product_width;
  const int n = row % t.tile_images, place = row / t.tile_images;
  const int h = block / across * t.product_height + place / t.product_width;
  const int w = block % across * t.product_width + place % t.product_width;
  return {n, h * p.stride_h + i * p.tap_step_h, w * p.stride_w + j * p.tap_step_w};
}

std::string describe(const HaloProblem& p, const HaloTiling& t) {
  return join("images ", t.tile_images, ", tile ", t.tile_height, " x ", t.tile_width, ", product ",
              t.product_height, " x ", t.product_width, ", stride ", p.stride_h, " ", p.stride_w,
              ", taps ", p.taps_h, " ", p.taps_w, ", steps ", p.tap_step_h, " ", p.tap_step_w);
}

void check_reads(const HaloProblem& p, const HaloVariant& variant, const HaloTiling& t) {
  const char* what = "halo tiling";
  const std::string text = describe(p, t);
  const int products = variant.rows / 64;
  expect(t.tile_height / t.product_height * (t.tile_width / t.product_width) == products &&
             t.tile_images * t.product_height * t.product_width == 64,
         what, join("products do not make the tile: ", text));
  expect(t.halo_height <= 256 && t.halo_width * t.planes <= 256, what, join("box: ", text));
  expect(t.planes * t.plane_bytes() == t.halo_bytes && t.halo_bytes % 1024 == 0, what,
         join("planes: ", text));
  for (int trial = 0; trial < 200; ++trial) {
    const int block = static_cast<int>(uniform(0, products - 1));
    const int row = static_cast<int>(uniform(0, 63));
    const int i = static_cast<int>(uniform(0, p.taps_h - 1));
    const int j = static_cast<int>(uniform(0, p.taps_w - 1));
    const int at = read_at(p, t, block, row, i, j);
    const Pixel want = wanted(p, t, block, row, i, j);
    const bool inside = want.h < t.halo_height && want.w < t.halo_width * t.planes;
    if (inside && at < t.halo_bytes && pixel_at(t, at) == want) continue;
    return expect(false, what,
                  join("block ", block, ", row ", row, ", tap ", i, " ", j, ": ", text));
  }
}

}  // namespace

void check_halo_tilings(bool quick) {
  const Multiprocessors gpu;
  int tiled = 0;
  for (int trial = 0; trial < (quick ? 50 : 2000); ++trial) {
    const HaloProblem problem = random_problem();
    for (const int rows : {64, 128, 256}) {
      for (const int columns : {64, 128}) {
        for (const int bytes : {2, 4}) {
          HaloVariant variant{rows, columns, bytes, bytes, 64, HaloVariant::kDescriptors};
          if (rows == 64 || trial % 2 == 0) variant.reading = HaloVariant::kResidentFilter;
          HaloTiling tiling;
          if (!tile_halo(problem, variant, gpu, &tiling)) continue;
          ++tiled;
          expect(tiling.shared_bytes() <= gpu.shared_bytes, "halo tiling",
                 "too much shared memory");
          check_reads(problem, variant, tiling);
        }
      }
    }
  }
  expect(tiled > (quick ? 50 : 2000), "halo tiling", "few problems have tiles");
}

}  // namespace jaxdirect::conv::checks
