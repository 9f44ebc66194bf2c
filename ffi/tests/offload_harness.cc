// The tensor cache without XLA: values of random sizes stored and fetched by several executions at
// once. Under a thread sanitizer it shows that copies on their way touch nothing of others. On a
// GPU it runs ahead of what it has queued there, and other bytes follow into every buffer as soon
// as a call returns, as XLA's would: what comes too early or too late brings those.

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <random>
#include <string_view>
#include <thread>
#include <vector>

#include "checks.h"
#include "offload/disk_tier.h"
#include "offload/engine.h"

namespace jaxdirect::offload {
namespace {

using testing::Buffer;
using testing::expect;
using testing::join;
using Bytes = std::vector<std::byte>;

#ifdef JAXDIRECT_CUDA_MODULE
constexpr bool kOnGpu = true;
#else
constexpr bool kOnGpu = false;
#endif

std::atomic<int> io_pause_us{0};

Bytes random_bytes(std::mt19937& random, int64_t count) {
  Bytes value(static_cast<size_t>(count));
  for (std::byte& byte : value) byte = static_cast<std::byte>(random());
  return value;
}

// Work that takes a stream longer than its caller takes for the rest.
void delay(StreamHandle stream) {
  constexpr int64_t kBytes = 1 << 28;
  constexpr int kTimes = kOnGpu ? 200 : 1;
  static auto* const from = new Buffer<std::byte>(Bytes(kBytes));
  static auto* const to = new Buffer<std::byte>(Bytes(kBytes));
  for (int i = 0; i < kTimes; ++i) {
    const Status status = copy(stream, to->data(), from->data(), kBytes);
    expect(status.is_ok(), "delay", status.message());
  }
}

// A value, and the memory that it passes through on the device.
struct Stored {
  int64_t site;
  Bytes value;
  bool in_place;
  Buffer<std::byte> given{value}, other{Bytes(value.size(), std::byte{0xee})};
  Buffer<std::byte> buffer{value}, same{value}, found{value};
  Buffer<uint32_t> words{std::vector<uint32_t>(2)};

  Stored(int64_t at, Bytes bytes, bool alias = true)
      : site(at), value(std::move(bytes)), in_place(alias) {}
  std::span<std::byte> of(Buffer<std::byte>& memory) { return {memory.data(), value.size()}; }
  std::span<uint32_t> ticket() { return {words.data(), 2}; }
};

// One execution after the other, on a device that has work to do before.
class Program {
 public:
  explicit Program(int64_t device, bool is_late = kOnGpu) : device_(device), is_late_(is_late) {
    if (kOnGpu) expect(make_stream(&compute_).is_ok(), "program", "a stream");
  }

  void begin(int64_t run) {
    run_ = run;
    if (is_late_) delay(compute_);
  }

  Status store(Stored& one, bool on_disk = false) {
    move(one, one.buffer, one.given);
    if (!one.in_place) move(one, one.same, one.other);
    std::byte* const same = one.in_place ? one.buffer.data() : one.same.data();
    const Status status = Engine::of(device_).store(compute_, {device_, run_, one.site, on_disk},
                                                    one.of(one.buffer), same, one.ticket());
    move(one, one.buffer, one.other);
    return status;
  }

  Status fetch(Stored& one) {
    move(one, one.found, one.other);
    return Engine::of(device_).fetch(compute_, {device_, run_, one.site, false}, one.ticket(),
                                     one.of(one.found));
  }

  void wait() {
    EventRef end;
    expect(record(compute_, &end).is_ok() && synchronize(end).is_ok(), "program", "its end");
  }

  // Waits for all; values that were fetched must be those that were stored.
  void check(const std::vector<std::unique_ptr<Stored>>& all, const char* what, bool is_fetched) {
    wait();
    for (const auto& one : all) {
      expect(one->in_place || one->same.read() == one->value, what, "the value is handed on");
      expect(!is_fetched || one->found.read() == one->value, what, "other bytes than were stored");
    }
  }

 private:
  void move(Stored& one, Buffer<std::byte>& to, Buffer<std::byte>& from) {
    const auto bytes = static_cast<int64_t>(one.value.size());
    expect(copy(compute_, to.data(), from.data(), bytes).is_ok(), "program", "a copy");
  }

  int64_t device_, run_ = 0;
  bool is_late_;
  StreamHandle compute_{};  // on a CPU the calling thread
};

// Forward and backward passes of one device.
void run_steps(int64_t device, int steps) {
  std::mt19937 random(static_cast<uint32_t>(device));
  Program program(device);
  for (int step = 0; step < steps; ++step) {
    std::vector<std::unique_ptr<Stored>> all;
    for (int left = static_cast<int>(random() % 12); left > 0; --left) {
      const int64_t bytes = random() % 4 == 0 ? 0 : static_cast<int64_t>(random() % 200'000);
      const auto site = static_cast<int64_t>(random() % 3);
      all.push_back(std::make_unique<Stored>(site, random_bytes(random, bytes), random() % 2 == 0));
    }
    program.begin(device * 1000 + step);
    for (const auto& one : all) {
      const Status status = program.store(*one, /*on_disk=*/random() % 2 == 0);
      expect(status.is_ok(), "store", status.message());
    }
    const bool goes_back = step % 5 != 4;
    for (auto one = all.rbegin(); goes_back && one != all.rend(); ++one) {
      const Status status = program.fetch(**one);
      expect(status.is_ok(), "fetch", status.message());
    }
    program.check(all, "steps", goes_back);
  }
}

// Values in the staging when they are asked for do not leave it in the next execution.
void check_what_stays() {
  constexpr int64_t kBytes = 100'000;
  std::mt19937 random(3);
  Program program(60);
  int64_t sent[4] = {};
  for (int run = 0; run < 4; ++run) {
    const int64_t before = Engine::all_stats().sent_bytes;
    const int count = run == 3 ? 8 : 5;  // the last stores more than before: what stayed must leave
    std::vector<std::unique_ptr<Stored>> all;
    for (int i = 0; i < count; ++i) {
      all.push_back(std::make_unique<Stored>(5, random_bytes(random, kBytes)));
    }
    program.begin(run);
    for (const auto& one : all) {
      const Status status = program.store(*one);
      expect(status.is_ok(), "stay", status.message());
    }
    for (auto one = all.rbegin(); one != all.rend(); ++one) {
      const Status status = program.fetch(**one);
      expect(status.is_ok(), "stay", status.message());
    }
    program.check(all, "stay", /*is_fetched=*/true);
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
  delay(slow);
  EventRef late;
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
  constexpr int64_t kLimit = 6 * 13 * kSlabAlignment;
  expect(Engine::clear_all().is_ok(), "clear", "before the slow disk");
  expect(SlabPool::instance().set_limit(kLimit).is_ok(), "limit", "of six values");
  io_pause_us = 150'000;
  std::mt19937 random(7);
  Program program(50);
  std::vector<std::unique_ptr<Stored>> all;
  for (int i = 0; i < 24; ++i) {
    all.push_back(std::make_unique<Stored>(i % 3, random_bytes(random, kBytes)));
  }
  program.begin(1);
  for (size_t i = 0; i < all.size(); ++i) {
    const Status status = program.store(*all[i], /*on_disk=*/i % 2 == 0);
    expect(status.is_ok(), "slow disk", status.message());
    expect(SlabPool::instance().bytes().mapped <= kLimit, "slow disk", "host memory's limit");
  }
  for (auto one = all.rbegin(); one != all.rend(); ++one) {
    const Status status = program.fetch(**one);
    expect(status.is_ok(), "slow disk", status.message());
  }
  program.check(all, "slow disk", /*is_fetched=*/true);
  io_pause_us = 0;
  expect(Engine::all_stats().disk_waits > 0, "slow disk",
         "nothing waited: the check shows nothing");
  expect(Engine::all_stats().spilled > 0, "slow disk", "nothing had to go on");
  expect(SlabPool::instance().set_limit(int64_t{1} << 62).is_ok(), "limit", "raised");
}

void check_refusals() {
  Engine& engine = Engine::of(100);
  Stored one(7, Bytes(100)), two(7, Bytes(100)), less(7, Bytes(99)), elsewhere(8, Bytes(100));
  Program program(100, /*is_late=*/false);
  program.begin(1);
  expect(program.store(one).is_ok(), "store", "of one");
  expect(program.store(two).is_ok(), "store", "of two");
  const Call call{100, 1, 7, false};
  expect(!engine.fetch(nullptr, call, two.ticket(), less.of(less.found)).is_ok(), "fetch",
         "of another size");
  expect(!program.fetch(elsewhere).is_ok(), "fetch", "of another site");
  program.begin(2);
  expect(!program.fetch(two).is_ok(), "fetch", "of another run");
  program.begin(1);
  expect(program.fetch(two).is_ok(), "fetch", "of two");
  expect(program.fetch(one).is_ok(), "fetch", "of one");
  expect(!program.fetch(one).is_ok(), "fetch", "for the second time");

  expect(Engine::clear_all().is_ok(), "clear", "all");
  expect(DiskTier::instance().open({}, 0).is_ok(), "open", "no disk any more");
  expect(SlabPool::instance().set_limit(3 * kSlabAlignment).is_ok(), "limit", "of three pages");
  for (int i = 0; i < 3; ++i) expect(program.store(one).is_ok(), "store", "within the limit");
  expect(!program.store(two).is_ok(), "store", "over it");
  expect(program.fetch(one).is_ok(), "fetch", "after that");
  expect(SlabPool::instance().set_limit(int64_t{1} << 62).is_ok(), "limit", "raised");
}

// The ticket of another value: an error, at once or by the next call, and never that value.
void check_a_lost_ticket() {
  Stored one(7, Bytes(100)), two(7, Bytes(100));
  Program program(101, /*is_late=*/false);
  program.begin(1);
  expect(program.store(one).is_ok() && program.store(two).is_ok(), "ticket", "stores");
  const bool at_once = !program.fetch(one).is_ok();
  program.wait();
  if (kOnGpu) expect(one.found.read() == Bytes(100, std::byte{0xff}), "ticket", "no NaNs");
  expect(at_once || !program.fetch(one).is_ok(), "ticket", "of another value");
  expect(Engine::clear_all().is_ok(), "clear", "what is left of them");
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
  check_what_stays();
  check_jobs_that_wait();
  check_a_slow_disk();
  check_a_lost_ticket();
  check_refusals();
  jaxdirect::testing::expect(Engine::clear_all().is_ok(), "clear", "all");
  jaxdirect::testing::expect(SlabPool::instance().bytes().mapped == 0, "clear", "gives all back");
  jaxdirect::testing::expect(Engine::all_stats().waiting == 0, "clear", "leaves nothing");
  if (jaxdirect::testing::failures > 0) return 1;
  std::puts("offload: all checks passed");
  return 0;
}
