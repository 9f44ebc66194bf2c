#include "hostmem/order.h"

#include <algorithm>
#include <cmath>

namespace jaxdirect::hostmem {
namespace {

// Measured on one H200 over PCIe 5 x16 (benchmarks/results). What the rule compares are
// two times on the same link, so its choice moves little from machine to machine.
constexpr double kSecondsPerLine = 0.43e-9;   // of each 128-byte line that a row touches,
constexpr double kSecondsPerByte = 0.017e-9;  // and of each byte, on the link
constexpr double kCacheBytesPerSecond = 250e9;
constexpr double kTranslationBytes = 65536;  // what one address translation covers
// Real batches repeat ids, and given order finds those in the cache: with few ids it
// takes as little as half of its time for uniform ones.
constexpr double kFewIds = 32768;
constexpr double kMustGain = 0.97;
constexpr double kMustGainWithFewIds = 0.5;

// A rate that falls along straight lines in log space through its values for tables of
// 64 MiB, 1 GiB and 16 GiB.
double rate_for(double table_bytes, double at_64m, double at_1g, double at_16g) {
  const double doublings = std::clamp(std::log2(table_bytes) - 30.0, -4.0, 6.0);
  const double other = doublings < 0 ? at_64m : at_16g;
  return at_1g * std::pow(other / at_1g, std::abs(doublings) / 4.0);
}

// Two limits of one stream of reads; near each other they add up.
double both(double a, double b) { return std::pow(std::pow(a, 4) + std::pow(b, 4), 0.25); }

// How many of `places` are hit by `draws` uniform draws.
double distinct(double places, double draws) { return -places * std::expm1(-draws / places); }

double sort_seconds(int passes, double count) {
  if (count <= 4096) return 12e-6;
  return 6e-6 + passes * (10e-6 + 8.7e-12 * count);
}

int bit_width(int64_t value) {
  int width = 0;
  for (; value > 0; value >>= 1) ++width;
  return width;
}

}  // namespace

OrderPlan plan_order(Order order, bool on_host, int64_t num_rows, int64_t row_bytes,
                     int64_t count) {
  OrderPlan plan;
  if (order == Order::kGiven || count < 2 || num_rows < 2 || count > INT32_MAX) return plan;

  // Keys have 32 bits, and order finer
  // than four keys an id gains nothing.
  plan.high_bit = bit_width(num_rows);
  const int useful = std::min({plan.high_bit, 32, bit_width(count) + 2});
  const int passes = std::max(1, (useful + 4) / 8);
  plan.low_bit = std::max(plan.high_bit - 8 * passes, std::max(0, plan.high_bit - 32));
  plan.sorted = true;
  plan.spread_invalid = true;
  if (order == Order::kSorted) return plan;

  if (!on_host) return OrderPlan();
  const double draws = static_cast<double>(count);
  const double rows = static_cast<double>(num_rows);
  const double bytes = static_cast<double>(row_bytes);
  const double table_bytes = rows * bytes;
  const double row_seconds = std::ceil(bytes / 128.0) * kSecondsPerLine + bytes * kSecondsPerByte;
  const double given = both(draws * row_seconds, draws / rate_for(table_bytes, 680e6, 109e6, 33e6));

  const double reads = distinct(rows, draws);
  const double translations = distinct(std::max(1.0, table_bytes / kTranslationBytes), reads);
  const double link = std::max(reads * row_seconds, draws * bytes / kCacheBytesPerSecond);
  const double sorted = both(link, translations / rate_for(table_bytes, 1000e6, 250e6, 36e6)) +
                        sort_seconds(plan.passes(), draws);
  const double must_gain = draws < kFewIds ? kMustGainWithFewIds : kMustGain;
  return sorted < must_gain * given ? plan : OrderPlan();
}

}  // namespace jaxdirect::hostmem
