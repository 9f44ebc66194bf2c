#pragma once

// Files that values go on to: one in each directory, without a name, so that nothing is left when
// the process ends, however it does. Direct I/O where the file system has it.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/status.h"

namespace jaxdirect::offload {

// A place in a file. Offsets and sizes are whole pages.
struct Extent {
  int file = -1;  // of the disk's files; -1: none
  int64_t offset = 0, bytes = 0;
};

// Space of one file: freed extents are taken again, best fit first.
class Extents {
 public:
  // Extends the file where no free extent fits: `*grown_to` is then its new size, else 0.
  int64_t take(int64_t bytes, int64_t* grown_to);
  void give(int64_t offset, int64_t bytes);
  // Undoes a `take` that extended the file.
  void take_back(int64_t offset) { end_ = offset; }

 private:
  std::map<int64_t, int64_t> free_;  // offset to bytes
  int64_t end_ = 0;
};

struct DiskStats {
  int64_t written_bytes = 0, read_bytes = 0;
  int64_t file_bytes = 0;
  bool direct = false;  // past the page cache, in all files
};

class Disk {
 public:
  Disk() = default;
  ~Disk();
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  // A file in each directory; values take turns.
  static Status open(const std::vector<std::string>& directories, std::unique_ptr<Disk>* disk);

  // Space on the disk itself, so that writing cannot run out of it.
  Status take(int64_t bytes, Extent* extent);
  void give(const Extent& extent);

  // `data` starts at a page. All bytes or an error that names the directory.
  Status write(const Extent& extent, const std::byte* data);
  Status read(const Extent& extent, std::byte* data);

  DiskStats stats();

 private:
  struct File {
    std::string directory;
    int descriptor = -1;
    bool direct = false;
    Extents extents;
    int64_t bytes = 0;
  };

  // For messages: what is done, and what it means that nothing is.
  struct Words {
    const char* doing;
    const char* nothing;
  };

  template <typename Part>
  Status move(const Extent& extent, const Words& words, int64_t DiskStats::* counter,
              const Part& part);

  std::mutex mutex_;
  std::vector<File> files_;
  size_t next_ = 0;
  DiskStats stats_;
};

}  // namespace jaxdirect::offload
