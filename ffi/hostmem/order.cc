#include "hostmem/order.h"

#include <algorithm>
#include <cmath>

namespace jaxdirect::hostmem {
namespace {

// Measured on one H200 over PCIe 5 x16. What the rule compares are two times on
// the same link, so its choice moves little from machine to machine.
constexpr double kLinkBytesPerSecond = 51e9;

// Rows per second that address translation allows in random order, for tables of
// 64 MiB, 1 GiB and 16 GiB; between them it falls along a line in log space.
double random_rows_per_second(double table_bytes) {
  const double gib = table_bytes / (1024.0 * 1024.0 * 1024.0);
  if (gib <= 1.0 / 16.0) return 680e6;
  const double doublings = std::log2(gib);
  if (gib <= 1.0) return 114e6 * std::exp2(-doublings * std::log2(680.0 / 114.0) / 4.0);
  return 114e6 * std::exp2(-std::min(doublings, 6.0) * std::log2(114.0 / 34.0) / 4.0);
}

// Launches, then passes over the keys.
double sort_seconds(int passes, double count) {
  if (count <= 4096) return 18e-6;
  return 16e-6 + passes * (12.5e-6 + 8.7e-12 * count);
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

  // The id num_rows stands for "out of range". Keys have 32 bits, and order finer
  // than four keys an id gains nothing.
  plan.high_bit = bit_width(num_rows);
  const int useful = std::min({plan.high_bit, 32, bit_width(count) + 2});
  const int passes = std::max(1, (useful + 4) / 8);
  plan.low_bit = std::max(plan.high_bit - 8 * passes, std::max(0, plan.high_bit - 32));
  plan.sorted = true;
  if (order == Order::kSorted) return plan;

  const double rows = static_cast<double>(count);
  const double link_seconds = rows * static_cast<double>(row_bytes) / kLinkBytesPerSecond;
  const double table_bytes = static_cast<double>(num_rows) * static_cast<double>(row_bytes);
  const double given = std::max(link_seconds, rows / random_rows_per_second(table_bytes));
  const double sorted = link_seconds + sort_seconds(plan.passes(), rows);
  if (!on_host || given < sorted) return OrderPlan();
  return plan;
}

}  // namespace jaxdirect::hostmem
