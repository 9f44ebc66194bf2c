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
#include "offload/streams.h"

namespace jaxdirect::offload {

// Threads that do jobs, reads before writes: a backward pass waits for those. A job begins when an
// event has passed, and others go first until then: what one device waits for may be another's,
// which has not even been launched.
class IoThreads {
 public:
  using Job = std::function<void()>;

  void start(int threads);  // at least so many
  void add_read(EventRef after, Job job) { add(&reads_, {std::move(after), std::move(job)}); }
  void add_write(EventRef after, Job job) { add(&writes_, {std::move(after), std::move(job)}); }

 private:
  struct Waiting {
    EventRef after;
    Job job;
  };

  void add(std::deque<Waiting>* jobs, Waiting job);
  static bool take(std::deque<Waiting>* jobs, Job* job);
  void run();

  std::mutex mutex_;
  std::condition_variable added_;
  std::deque<Waiting> reads_, writes_;
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
