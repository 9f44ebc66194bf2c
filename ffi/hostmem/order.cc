#include "hostmem/order.h"

#include <algorithm>
#include <cmath>

namespace jaxdirect::hostmem {
namespace {

// Measured on one H200 over PCIe 5 x16 (benchmarks/results). What the rule compares are
// two times on the same link, so its choice moves little from machine to machine.
constexpr double kSecondsPerLine = 0.43e-9;    // of each 128-byte line that a row touches,
constexpr double kSecondsPerByte = 0.0158e-9;  // and of each byte, on the link
constexpr double kCacheBytesPerSecond = 250e9;
constexpr double kTranslationBytes = 65536;  // what one address translation covers
// Equal ids are read once if they are visited within so many bytes.
constexpr int64_t kBytesReadTogether = 8192;
constexpr int64_t kTooFew = 4096;  // ids of a call that takes 10 us: even the rule would show
// Real batches repeat ids and have neighbours side by side: with few reads given order
// takes as little as a third of its time for uniform ones.
constexpr double kFewReads = 16384;
constexpr double kMustGain = 0.97;
constexpr double kMustGainWithFewReads = 0.4;

// A rate that falls along straight lines in log space through its values for tables of
// 64 MiB, 1 GiB and 16 GiB.
double rate_for(double table_bytes, double at_64m, double at_1g, double at_16g) {
  const double doublings = std::clamp(std::log2(table_bytes) - 30.0, -4.0, 6.0);
  const double other = doublings < 0 ? at_64m : at_16g;
  return at_1g * std::pow(other / at_1g, std::abs(doublings) / 4.0);
}

// How many of `places` are hit by `draws` uniform draws.
double distinct(double places, double draws) { return -places * std::expm1(-draws / places); }

double radix_seconds(int passes, double count) {
  return 10e-6 + passes * (10e-6 + 8.7e-12 * count);
}

double bucket_seconds(double count) { return 6.5e-6 + 92e-12 * count; }

struct Table {
  double rows;
  double row_bytes;
};

// Whether `reads` random rows are read sooner in order, given that ordering takes so long.
bool pays(const Table& table, int64_t count, double order_seconds) {
  const auto reads = static_cast<double>(count);
  const double bytes = table.row_bytes;
  const double table_bytes = table.rows * bytes;
  const double row_seconds = std::ceil(bytes / 128.0) * kSecondsPerLine + bytes * kSecondsPerByte;
  const double given =
      std::max(reads * row_seconds, reads / rate_for(table_bytes, 680e6, 109e6, 33e6));

  const double rows = distinct(table.rows, reads);
  const double translations = distinct(std::max(1.0, table_bytes / kTranslationBytes), rows);
  const double link = std::max(rows * row_seconds, reads * bytes / kCacheBytesPerSecond);
  const double ordered = std::max(link, translations / rate_for(table_bytes, 1000e6, 250e6, 36e6));
  return ordered + order_seconds < (reads < kFewReads ? kMustGainWithFewReads : kMustGain) * given;
}

int bit_width(int64_t value) {
  int width = 0;
  for (; value > 0; value >>= 1) ++width;
  return width;
}

}  // namespace

OrderPlan plan_stable_sort(int64_t num_rows) {
  OrderPlan plan;
  plan.method = OrderPlan::Method::kRadix;
  plan.high_bit = bit_width(num_rows);
  return plan;
}

OrderPlan plan_order(Order order, bool on_host, int64_t num_rows, int64_t row_bytes,
                     int64_t count) {
  OrderPlan plan;
  if (order == Order::kGiven || count < 2 || num_rows < 2 || count > INT32_MAX) return plan;
  if (order == Order::kAuto && (!on_host || count < kTooFew)) return plan;
  plan.spread_others = true;
  plan.high_bit = bit_width(num_rows);
  double order_seconds = 0;
  const int bits = std::max(kLeastBucketBits, bit_width(count * row_bytes / kBytesReadTogether));
  if (count <= kMostBucketIds && bits <= kMostBucketBits) {
    plan.method = OrderPlan::Method::kBuckets;
    plan.low_bit = std::max(0, bit_width(num_rows - 1) - bits);
    order_seconds = bucket_seconds(static_cast<double>(count));
  } else {
    // Order finer than four keys an id gains nothing, and keys have 32 bits.
    plan.method = OrderPlan::Method::kRadix;
    const int useful = std::min({plan.high_bit, 32, bit_width(count) + 2});
    const int passes = std::max(1, (useful + 4) / 8);
    plan.low_bit = std::max({0, plan.high_bit - 8 * passes, plan.high_bit - 32});
    order_seconds = radix_seconds(plan.passes(), static_cast<double>(count));
  }
  if (order == Order::kSorted) return plan;

  const Table table{static_cast<double>(num_rows), static_cast<double>(row_bytes)};
  if (!pays(table, count, order_seconds)) return OrderPlan();
  int64_t too_few = 1;
  plan.min_reads = count;
  while (plan.min_reads - too_few > 1) {
    const int64_t middle = too_few + (plan.min_reads - too_few) / 2;
    (pays(table, middle, order_seconds) ? plan.min_reads : too_few) = middle;
  }
  return plan;
}

}  // namespace jaxdirect::hostmem
