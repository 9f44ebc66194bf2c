#include "offload/disk.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>

namespace jaxdirect::offload {
namespace {

// Without a name from the start, or, where the file system cannot, without one at once.
Status open_file(const std::string& directory, int flags, int* descriptor) {
  *descriptor = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC | flags, 0600);
  if (*descriptor >= 0) return Status::ok();
  if (errno == EOPNOTSUPP || errno == EISDIR) {
    std::string path = directory + "/jaxdirect-offload-XXXXXX";
    *descriptor = ::mkostemp(path.data(), O_CLOEXEC | flags);
    if (*descriptor >= 0) {
      ::unlink(path.c_str());
      return Status::ok();
    }
  }
  return Status::error("offload: no file can be made in '", directory, "': ", std::strerror(errno));
}

}  // namespace

int64_t Extents::take(int64_t bytes, int64_t* grown_to) {
  *grown_to = 0;
  auto best = free_.end();
  for (auto extent = free_.begin(); extent != free_.end(); ++extent) {
    if (extent->second < bytes) continue;
    if (best == free_.end() || extent->second < best->second) best = extent;
  }
  if (best == free_.end()) {
    const int64_t offset = end_;
    end_ += bytes;
    *grown_to = end_;
    return offset;
  }
  const auto [offset, size] = *best;
  free_.erase(best);
  if (size > bytes) free_[offset + bytes] = size - bytes;
  return offset;
}

void Extents::give(int64_t offset, int64_t bytes) {
  auto extent = free_.emplace(offset, bytes).first;
  if (const auto next = std::next(extent);
      next != free_.end() && extent->first + extent->second == next->first) {
    extent->second += next->second;
    free_.erase(next);
  }
  if (extent == free_.begin()) return;
  const auto before = std::prev(extent);
  if (before->first + before->second != extent->first) return;
  before->second += extent->second;
  free_.erase(extent);
}

Disk::~Disk() {
  for (const File& file : files_) ::close(file.descriptor);
}

Status Disk::open(const std::vector<std::string>& directories, std::unique_ptr<Disk>* disk) {
  auto made = std::make_unique<Disk>();
  made->stats_.direct = true;
  for (const std::string& directory : directories) {
    File file{.directory = directory, .descriptor = -1, .direct = true, .extents = {}, .bytes = 0};
    if (!open_file(directory, O_DIRECT, &file.descriptor).is_ok()) {
      file.direct = made->stats_.direct = false;
      JAXDIRECT_RETURN_IF_ERROR(open_file(directory, 0, &file.descriptor));
    }
    made->files_.push_back(std::move(file));
  }
  *disk = std::move(made);
  return Status::ok();
}

Status Disk::take(int64_t bytes, Extent* extent) {
  std::lock_guard<std::mutex> lock(mutex_);
  const size_t number = next_++ % files_.size();
  File& file = files_[number];
  int64_t grown_to = 0;
  *extent = {static_cast<int>(number), file.extents.take(bytes, &grown_to), bytes};
  if (grown_to <= file.bytes) return Status::ok();
  if (const int error = ::posix_fallocate(file.descriptor, extent->offset, bytes); error != 0) {
    file.extents.take_back(extent->offset);
    *extent = {};
    return Status::error("offload: no ", bytes, " bytes more in '", file.directory, "' beside ",
                         file.bytes, ": ", std::strerror(error));
  }
  stats_.file_bytes += grown_to - file.bytes;
  file.bytes = grown_to;
  return Status::ok();
}

void Disk::give(const Extent& extent) {
  std::lock_guard<std::mutex> lock(mutex_);
  files_[static_cast<size_t>(extent.file)].extents.give(extent.offset, extent.bytes);
}

Status Disk::write(const Extent& extent, const std::byte* data) {
  const auto part = [&](int file, int64_t done, size_t rest) {
    return ::pwrite(file, data + done, rest, extent.offset + done);
  };
  const Words words{"writing", "no byte was written"};
  return move(extent, words, &DiskStats::written_bytes, part);
}

Status Disk::read(const Extent& extent, std::byte* data) {
  const auto part = [&](int file, int64_t done, size_t rest) {
    return ::pread(file, data + done, rest, extent.offset + done);
  };
  return move(extent, {"reading", "the file is shorter"}, &DiskStats::read_bytes, part);
}

// Calls `part(file, bytes done, bytes left)` until all are done, or one fails.
template <typename Part>
Status Disk::move(const Extent& extent, const Words& words, int64_t DiskStats::* counter,
                  const Part& part) {
  const File& file = files_[static_cast<size_t>(extent.file)];
  for (int64_t done = 0; done < extent.bytes;) {
    const ssize_t count = part(file.descriptor, done, static_cast<size_t>(extent.bytes - done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      return Status::error("offload: ", words.doing, " ", extent.bytes, " bytes in '",
                           file.directory,
                           "' failed: ", count < 0 ? std::strerror(errno) : words.nothing);
    }
    done += count;
  }
  std::lock_guard<std::mutex> lock(mutex_);
  stats_.*counter += extent.bytes;
  return Status::ok();
}

DiskStats Disk::stats() {
  std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

}  // namespace jaxdirect::offload
