#include "offload/disk_tier.h"

#include <thread>
#include <utility>

namespace jaxdirect::offload {

void IoThreads::start(int threads) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (; threads_ < threads; ++threads_) std::thread([this] { run(); }).detach();
}

void IoThreads::add(std::deque<std::function<void()>>* jobs, std::function<void()> job) {
  std::lock_guard<std::mutex> lock(mutex_);
  jobs->push_back(std::move(job));
  added_.notify_one();
}

void IoThreads::run() {
  for (;;) {
    std::function<void()> next;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      added_.wait(lock, [&] { return !reads_.empty() || !writes_.empty(); });
      std::deque<std::function<void()>>& jobs = reads_.empty() ? writes_ : reads_;
      next = std::move(jobs.front());
      jobs.pop_front();
    }
    next();
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
