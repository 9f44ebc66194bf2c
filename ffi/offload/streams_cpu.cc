#include <sys/mman.h>

#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "common/host_memory.h"
#include "offload/streams.h"

namespace jaxdirect::offload {

class Event {
 public:
  void pass() {
    std::lock_guard<std::mutex> lock(mutex_);
    has_passed_ = true;
    passed_.notify_all();
  }
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    passed_.wait(lock, [&] { return has_passed_; });
  }
  bool has_passed() {
    std::lock_guard<std::mutex> lock(mutex_);
    return has_passed_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable passed_;
  bool has_passed_ = false;
};

// A thread that does one thing after another.
class WorkQueue {
 public:
  WorkQueue() {
    std::thread([this] { run(); }).detach();
  }

  void add(std::function<void()> work) {
    std::lock_guard<std::mutex> lock(mutex_);
    work_.push_back(std::move(work));
    added_.notify_one();
  }

 private:
  void run() {
    for (;;) {
      std::function<void()> next;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        added_.wait(lock, [&] { return !work_.empty(); });
        next = std::move(work_.front());
        work_.pop_front();
      }
      next();
    }
  }

  std::mutex mutex_;
  std::condition_variable added_;
  std::deque<std::function<void()>> work_;
};

Status make_stream(StreamHandle* stream) {
  *stream = new WorkQueue;  // lives as long as its thread: as the process
  return Status::ok();
}

Status copy(StreamHandle stream, std::byte* to, const std::byte* from, int64_t bytes) {
  const auto work = [=] { std::memcpy(to, from, static_cast<size_t>(bytes)); };
  if (bytes > 0) stream == nullptr ? work() : stream->add(work);
  return Status::ok();
}

Status record(StreamHandle stream, EventRef* event) {
  *event = nullptr;
  if (stream == nullptr) return Status::ok();
  *event = std::make_shared<Event>();
  stream->add([recorded = *event] { recorded->pass(); });
  return Status::ok();
}

Status wait(StreamHandle stream, const EventRef& event) {
  if (event == nullptr) return Status::ok();
  if (stream == nullptr) return synchronize(event);
  stream->add([event] { event->wait(); });
  return Status::ok();
}

Status synchronize(const EventRef& event) {
  if (event != nullptr) event->wait();
  return Status::ok();
}

bool has_passed(const EventRef& event) { return event == nullptr || event->has_passed(); }

Status allocate_staging(int64_t bytes, std::byte** data) {
  *data = static_cast<std::byte*>(::operator new(static_cast<size_t>(bytes), std::nothrow));
  if (*data != nullptr) return Status::ok();
  return Status::error("offload: no ", bytes, " bytes for values on their way");
}

void free_staging(std::byte* data) { ::operator delete(data); }

Status map_slab(int64_t bytes, std::byte** data) {
  void* mapped = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    return Status::error("offload: no ", bytes, " bytes of host memory: ", std::strerror(errno));
  }
  advise_huge_pages(mapped, bytes);
  *data = static_cast<std::byte*>(mapped);
  return Status::ok();
}

void unmap_slab(std::byte* data, int64_t bytes) { munmap(data, static_cast<size_t>(bytes)); }

Status write_ticket(StreamHandle, std::span<uint32_t> words, Ticket ticket) {
  for (size_t i = 0; i < words.size(); ++i) {
    words[i] = static_cast<uint32_t>(i % 2 == 0 ? ticket : ticket >> 32);
  }
  return Status::ok();
}

Status check_ticket(StreamHandle, std::span<const uint32_t> words, Ticket expected,
                    std::span<std::byte>) {
  const Ticket found = words[0] | Ticket{words[1]} << 32;
  if (found == expected) return Status::ok();
  return Status::error("offload: ticket ", static_cast<int64_t>(found),
                       " is asked for, but the newest of its place in the program is ",
                       static_cast<int64_t>(expected),
                       ": the backward pass does not run in the opposite order");
}

}  // namespace jaxdirect::offload
