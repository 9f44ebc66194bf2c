#pragma once

// CPU parallelism for launch code: a loop over [0, count) cut into pieces that
// borrowed threads and the caller claim one by one.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

namespace jaxdirect {

// Where CPU work may run. `schedule` hands a task to another thread and returns
// at once; an empty one means that the caller does everything.
struct Executor {
  std::function<void(std::function<void()>)> schedule;
  int64_t num_threads = 1;
};

// Calls body(begin, end) for pieces of at most `grain` items that cover [0, count).
//
// The caller works too and afterwards waits only for pieces that a thread has
// already claimed, never for a task that has not started: a pool whose threads
// all sit in handlers therefore cannot deadlock.
template <typename Body>
void parallel_for(const Executor& executor, int64_t count, int64_t grain, const Body& body) {
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t pieces = (count + grain - 1) / grain;
  const int64_t helpers = std::min(executor.num_threads, pieces) - 1;
  if (helpers <= 0 || !executor.schedule) {
    body(0, count);
    return;
  }

  struct Shared {
    std::atomic<int64_t> next{0};
    std::mutex mutex;
    std::condition_variable done;
    int64_t finished = 0;
  };
  auto shared = std::make_shared<Shared>();
  // `body` is only touched for a claimed piece, and the caller outlives those.
  const Body* work = &body;
  auto drain = [shared, work, count, grain, pieces] {
    for (;;) {
      const int64_t piece = shared->next.fetch_add(1, std::memory_order_relaxed);
      if (piece >= pieces) return;
      (*work)(piece* grain, std::min(count, (piece + 1) * grain));
      std::lock_guard<std::mutex> lock(shared->mutex);
      if (++shared->finished == pieces) shared->done.notify_all();
    }
  };
  for (int64_t helper = 0; helper < helpers; ++helper) executor.schedule(drain);
  drain();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->done.wait(lock, [&] { return shared->finished == pieces; });
}

}  // namespace jaxdirect
