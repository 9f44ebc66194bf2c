#pragma once

// Threads for work outside of XLA, which brings its own.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "common/parallel.h"

namespace jaxdirect::relational {

// The caller and num_threads - 1 others, which end with this object.
class PlanThreads {
 public:
  explicit PlanThreads(int64_t num_threads) {
    for (int64_t i = 1; i < num_threads; ++i) {
      try {
        threads_.emplace_back([this] { serve(); });
      } catch (const std::system_error&) {  // the system has no more
        break;
      }
    }
    executor_.num_threads = static_cast<int64_t>(threads_.size()) + 1;
    executor_.schedule = [this](std::function<void()> task) {
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        tasks_.push_back(std::move(task));
      }
      changed_.notify_one();
    };
  }

  ~PlanThreads() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  PlanThreads(const PlanThreads&) = delete;
  PlanThreads& operator=(const PlanThreads&) = delete;

  const Executor& executor() const { return executor_; }

 private:
  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return ending_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool ending_ = false;
  std::vector<std::thread> threads_;
  Executor executor_;
};

}  // namespace jaxdirect::relational
