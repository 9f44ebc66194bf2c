// The tensor cache without XLA: values of random sizes stored and fetched by several executions at
// once. Under a thread sanitizer it shows that copies on their way touch nothing of others.

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <random>
#include <string_view>
#include <thread>
#include <vector>

#include "checks.h"
#include "offload/disk_tier.h"
#include "offload/engine.h"

namespace jaxdirect::offload {
namespace {

using testing::expect;
using testing::join;
using Words = std::vector<uint32_t>;

std::vector<std::byte> random_value(std::mt19937& random, int64_t bytes) {
  std::vector<std::byte> value(static_cast<size_t>(bytes));
  for (std::byte& byte : value) byte = static_cast<std::byte>(random());
  return value;
}

std::atomic<int> io_pause_us{0};

struct Stored {
  int64_t site;
  std::vector<std::byte> value;
  Words ticket;
};

// Forward and backward passes of one device: a buffer is written again as soon as it is stored,
// as XLA would.
void run_steps(int64_t device, int steps) {
  std::mt19937 random(static_cast<uint32_t>(device));
  Engine& engine = Engine::of(device);
  for (int step = 0; step < steps; ++step) {
    const int64_t run = device * 1000 + step;
    std::vector<Stored> stored;
    const int count = static_cast<int>(random() % 12);
    for (int i = 0; i < count; ++i) {
      const int64_t bytes = random() % 4 == 0 ? 0 : static_cast<int64_t>(random() % 200'000);
      Stored one{static_cast<int64_t>(random() % 3), random_value(random, bytes), Words(2)};
      std::vector<std::byte> buffer = one.value, same(buffer.size());
      const bool in_place = random() % 2 == 0;
      const bool on_disk = random() % 2 == 0;
      const Status status = engine.store(nullptr, {device, run, one.site, on_disk}, buffer,
                                         in_place ? buffer.data() : same.data(), one.ticket);
      expect(status.is_ok(), "store", status.message());
      expect(in_place || same == one.value, "store", "the value is handed on");
      std::fill(buffer.begin(), buffer.end(), std::byte{0xee});
      stored.push_back(std::move(one));
    }
    if (step % 5 == 4) continue;  // no backward pass
    for (; !stored.empty(); stored.pop_back()) {
      const Stored& one = stored.back();
      std::vector<std::byte> found(one.value.size());
      const Status status =
          engine.fetch(nullptr, {device, run, one.site, false}, one.ticket, found);
      expect(status.is_ok(), "fetch", status.message());
      expect(found == one.value, "fetch", join("step ", step, ": other bytes than were stored"));
    }
  }
}

// Values in the staging when they are asked for do not leave it in the next execution.
void check_what_stays() {
  constexpr int64_t kBytes = 100'000;
  std::mt19937 random(3);
  Engine& engine = Engine::of(60);
  int64_t sent[4] = {};
  for (int run = 0; run < 4; ++run) {
    const int64_t before = Engine::all_stats().sent_bytes;
    const int count = run == 3 ? 8 : 5;  // the last stores more than before: what stayed must leave
    std::vector<Stored> stored;
    for (int i = 0; i < count; ++i) {
      Stored one{5, random_value(random, kBytes), Words(2)};
      std::vector<std::byte> buffer = one.value;
      const Status status =
          engine.store(nullptr, {60, run, 5, false}, buffer, buffer.data(), one.ticket);
      expect(status.is_ok(), "stay", status.message());
      std::fill(buffer.begin(), buffer.end(), std::byte{0xee});
      stored.push_back(std::move(one));
    }
    for (; !stored.empty(); stored.pop_back()) {
      std::vector<std::byte> found(kBytes);
      const Status status = engine.fetch(nullptr, {60, run, 5, false}, stored.back().ticket, found);
      expect(status.is_ok(), "stay", status.message());
      expect(found == stored.back().value, "stay", "other bytes than were stored");
    }
    sent[run] = Engine::all_stats().sent_bytes - before;
  }
  expect(sent[0] == 5 * kBytes, "stay", join("the first sends all, not ", sent[0]));
  expect(sent[1] == 3 * kBytes, "stay", join("the second keeps two, sends ", sent[1]));
  expect(sent[2] == 3 * kBytes, "stay", join("so does the third, sends ", sent[2]));
  expect(sent[3] >= 6 * kBytes, "stay",
         join("the fourth sends what it has no room for: ", sent[3]));
}

// A device's copies may wait for another device, whose values must not wait for theirs.
void check_jobs_that_wait() {
  StreamHandle slow{};
  expect(make_stream(&slow).is_ok(), "jobs", "a stream");
  std::vector<std::byte> from(size_t{1} << 28), to(from.size());
  EventRef late;
  expect(copy(slow, to.data(), from.data(), static_cast<int64_t>(from.size())).is_ok(), "jobs",
         "a long copy");
  expect(record(slow, &late).is_ok(), "jobs", "its end");
  static IoThreads* const threads = new IoThreads;  // they run as long as the process
  threads->start(1);
  static std::atomic<int> begun{0}, first{0};
  threads->add_write(late, [] { ++begun; });
  threads->add_write(nullptr, [] { first = ++begun; });
  while (begun < 2) usleep(1000);
  expect(first == 1, "jobs", "one that could begin waited for one that could not");
}

// More is stored than a slow disk takes, and host memory is short.
void check_a_slow_disk() {
  constexpr int64_t kBytes = 50'000;
  constexpr int kCount = 24;
  expect(Engine::clear_all().is_ok(), "clear", "before the slow disk");
  expect(SlabPool::instance().set_limit(6 * 13 * kSlabAlignment).is_ok(), "limit", "of six values");
  io_pause_us = 150'000;
  std::mt19937 random(7);
  Engine& engine = Engine::of(50);
  std::vector<Stored> stored;
  for (int i = 0; i < kCount; ++i) {
    Stored one{i % 3, random_value(random, kBytes), Words(2)};
    std::vector<std::byte> buffer = one.value;
    const Call call{50, 1, one.site, /*on_disk=*/i % 2 == 0};
    const Status status = engine.store(nullptr, call, buffer, buffer.data(), one.ticket);
    expect(status.is_ok(), "slow disk", status.message());
    stored.push_back(std::move(one));
    const int64_t mapped = SlabPool::instance().bytes().mapped;
    expect(mapped <= 6 * 13 * kSlabAlignment, "slow disk", "host memory keeps its limit");
  }
  for (; !stored.empty(); stored.pop_back()) {
    const Stored& one = stored.back();
    std::vector<std::byte> found(one.value.size());
    const Status status = engine.fetch(nullptr, {50, 1, one.site, false}, one.ticket, found);
    expect(status.is_ok(), "slow disk", status.message());
    expect(found == one.value, "slow disk", "other bytes than were stored");
  }
  io_pause_us = 0;
  expect(Engine::all_stats().disk_waits > 0, "slow disk",
         "nothing waited: the check shows nothing");
  expect(Engine::all_stats().spilled > 0, "slow disk", "nothing had to go on");
  expect(SlabPool::instance().set_limit(int64_t{1} << 62).is_ok(), "limit", "raised");
}

void check_refusals() {
  Engine& engine = Engine::of(100);
  std::vector<std::byte> value(100), smaller(99);
  Words first(2), second(2);
  const Call call{100, 1, 7, false};
  expect(engine.store(nullptr, call, value, value.data(), first).is_ok(), "store", "of one");
  expect(engine.store(nullptr, call, value, value.data(), second).is_ok(), "store", "of two");
  expect(!engine.fetch(nullptr, call, first, value).is_ok(), "fetch", "out of turn");
  expect(!engine.fetch(nullptr, call, second, smaller).is_ok(), "fetch", "of another size");
  expect(!engine.fetch(nullptr, {100, 2, 7, false}, second, value).is_ok(), "fetch",
         "of another run");
  expect(!engine.fetch(nullptr, {100, 1, 8, false}, second, value).is_ok(), "fetch",
         "of another site");
  expect(engine.fetch(nullptr, call, second, value).is_ok(), "fetch", "of two");
  expect(engine.fetch(nullptr, call, first, value).is_ok(), "fetch", "of one");
  expect(!engine.fetch(nullptr, call, first, value).is_ok(), "fetch", "for the second time");

  expect(Engine::clear_all().is_ok(), "clear", "all");
  expect(DiskTier::instance().open({}, 0).is_ok(), "open", "no disk any more");
  expect(SlabPool::instance().set_limit(3 * kSlabAlignment).is_ok(), "limit", "of three pages");
  for (int i = 0; i < 3; ++i) {
    const bool stored = engine.store(nullptr, call, value, value.data(), first).is_ok();
    expect(stored, "store", "within the limit");
  }
  expect(!engine.store(nullptr, call, value, value.data(), second).is_ok(), "store", "over it");
  expect(engine.fetch(nullptr, call, first, value).is_ok(), "fetch", "after that");
  expect(SlabPool::instance().set_limit(int64_t{1} << 62).is_ok(), "limit", "raised");
}

}  // namespace
}  // namespace jaxdirect::offload

// In the place of the C library's: a disk that takes its time.
extern "C" ssize_t pwrite(int file, const void* data, size_t bytes, off_t offset) {
  usleep(static_cast<useconds_t>(jaxdirect::offload::io_pause_us));
  return syscall(SYS_pwrite64, file, data, bytes, offset);
}

extern "C" ssize_t pread(int file, void* data, size_t bytes, off_t offset) {
  usleep(static_cast<useconds_t>(jaxdirect::offload::io_pause_us));
  return syscall(SYS_pread64, file, data, bytes, offset);
}

int main(int argc, char** argv) {
  using namespace jaxdirect::offload;
  using jaxdirect::Status;
  const bool quick = argc > 1 && std::string_view(argv[1]) == "quick";
  const Status opened = DiskTier::instance().open({".", "."}, 3);
  jaxdirect::testing::expect(opened.is_ok(), "open", opened.message());
  std::vector<std::thread> devices;
  for (int64_t device = 0; device < 4; ++device) {
    devices.emplace_back([=] { run_steps(device, quick ? 20 : 400); });
  }
  for (std::thread& device : devices) device.join();
  check_what_stays();
  check_jobs_that_wait();
  check_a_slow_disk();
  check_refusals();
  jaxdirect::testing::expect(Engine::clear_all().is_ok(), "clear", "all");
  jaxdirect::testing::expect(SlabPool::instance().bytes().mapped == 0, "clear", "gives all back");
  jaxdirect::testing::expect(Engine::all_stats().waiting == 0, "clear", "leaves nothing");
  if (jaxdirect::testing::failures > 0) return 1;
  std::puts("offload: all checks passed");
  return 0;
}
