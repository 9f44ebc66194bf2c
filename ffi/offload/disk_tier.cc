#include "offload/disk_tier.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

namespace jaxdirect::offload {
namespace {

constexpr std::chrono::microseconds kPoll{100};

}  // namespace

void IoThreads::start(int threads) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (; threads_ < threads; ++threads_) std::thread([this] { run(); }).detach();
}

void IoThreads::add(std::deque<Waiting>* jobs, Waiting job) {
  std::lock_guard<std::mutex> lock(mutex_);
  jobs->push_back(std::move(job));
  added_.notify_one();
}

// The first whose event has passed.
bool IoThreads::take(std::deque<Waiting>* jobs, Job* job) {
  const auto ready = std::find_if(jobs->begin(), jobs->end(),
                                  [](const Waiting& one) { return has_passed(one.after); });
  if (ready == jobs->end()) return false;
  *job = std::move(ready->job);
  jobs->erase(ready);
  return true;
}

void IoThreads::run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    added_.wait(lock, [&] { return !reads_.empty() || !writes_.empty(); });
    Job job;
    const bool is_ready = take(&reads_, &job) || take(&writes_, &job);
    lock.unlock();
    if (is_ready) {
      job();
    } else {
      std::this_thread::sleep_for(kPoll);
    }
    lock.lock();
  }
}

DiskTier& DiskTier::instance() {
  static DiskTier* const tier = new DiskTier;  // its threads run as long as the process
  return *tier;
}

Status DiskTier::open(const std::vector<std::string>& directories, int threads) {
  std::unique_ptr<Disk> disk;
  if (!directories.empty()) JAXDIRECT_RETURN_IF_ERROR(Disk::open(directories, &disk));
  std::lock_guard<std::mutex> lock(mutex_);
  disk_ = std::move(disk);
  io_.start(threads);
  return Status::ok();
}

std::shared_ptr<Disk> DiskTier::disk() {
  std::lock_guard<std::mutex> lock(mutex_);
  return disk_;
}

}  // namespace jaxdirect::offload
