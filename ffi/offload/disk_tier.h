#pragma once

// The open disk and the threads that read and write it, of the whole process.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/status.h"
#include "offload/disk.h"

namespace jaxdirect::offload {

// Threads that do jobs in the order given, reads before writes: a backward pass waits for those.
class IoThreads {
 public:
  void start(int threads);  // at least so many
  void add_read(std::function<void()> job) { add(&reads_, std::move(job)); }
  void add_write(std::function<void()> job) { add(&writes_, std::move(job)); }

 private:
  void add(std::deque<std::function<void()>>* jobs, std::function<void()> job);
  void run();

  std::mutex mutex_;
  std::condition_variable added_;
  std::deque<std::function<void()>> reads_, writes_;
  int threads_ = 0;
};

class DiskTier {
 public:
  static DiskTier& instance();

  // Values that lie on the disk before stay there until they are fetched. No directory: none is
  // open.
  Status open(const std::vector<std::string>& directories, int threads);
  std::shared_ptr<Disk> disk();  // nullptr: none is open
  IoThreads& io() { return io_; }

 private:
  std::mutex mutex_;
  std::shared_ptr<Disk> disk_;
  IoThreads io_;
};

}  // namespace jaxdirect::offload
