#pragma once

// The tensor cache of one device: values that have left a program's buffers until its backward
// pass asks for them.
//
//   store:  buffer -> staging (on the program's stream) -> slab on the host (a stream of ours)
//   fetch:  staging -> buffer, if it is still or again there; else slab -> buffer
//
// Values move by pieces. What was still in the staging when the last execution of a program came
// for it does not leave it in the next one, unless its place is wanted. After each fetch the newest
// of those that wait are copied from their slabs into what is free of the staging: they are what
// the backward pass asks for next. A value has a ticket, a number that is never used twice. Values
// of one execution and one place of the program (a site) come back in the opposite order, the
// newest first; the program's data orders the calls so, and the ticket that comes with a fetch is
// compared.
//
// Values of the disk tier go on from their slabs to files, by threads of their own, and come back
// into slabs when the values before them in the backward pass are fetched. A call waits for the
// disk only where that was too late, so that what fails there is an error of that step. Where the
// host's memory is full and there is a disk, the oldest values of the host tier go on to it too.
// The limit is the process's; a device without a value of its own in host memory exceeds it by one.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "common/status.h"
#include "offload/disk.h"
#include "offload/slabs.h"
#include "offload/staging.h"
#include "offload/streams.h"

namespace jaxdirect::offload {

// A call of a handler: which execution of a program, and where in it.
struct Call {
  int64_t device = 0;
  int64_t run = 0;
  int64_t site = 0;
  bool on_disk = false;  // where the value goes in the end
};

struct Stats {
  int64_t stored = 0, stored_bytes = 0;
  int64_t fetched = 0, fetched_bytes = 0;
  int64_t forwarded = 0;   // of the fetched, those that had not left the staging
  int64_t prefetched = 0;  // those that were there again in time
  int64_t dropped = 0;     // values that nobody came for
  int64_t waiting = 0;     // values that may still be fetched
  int64_t spilled = 0;     // values that went on to the disk because the host's memory was full
  int64_t disk_waits = 0;  // fetches that had to wait for a read
  int64_t sent_bytes = 0;  // copied to the host
  int64_t staging_bytes = 0;

  void add(const Stats& other);
};

class Engine {
 public:
  static Engine& of(int64_t device);
  static Stats all_stats();
  // Bytes of each device's staging; 0: room for two of the largest values.
  static Status limit_staging(int64_t bytes);
  // Drops the values of all devices and gives their slabs and staging back.
  static Status clear_all();

  // `same` is the value again, usually in the same place.
  Status store(StreamHandle compute, const Call& call, std::span<const std::byte> value,
               std::byte* same, std::span<uint32_t> ticket);
  Status fetch(StreamHandle compute, const Call& call, std::span<const uint32_t> ticket,
               std::span<std::byte> value);

 private:
  // Executions that can be in flight at once. What is left of older ones nobody came for: a
  // forward pass without its backward pass, or a program that failed.
  static constexpr size_t kInFlight = 32;

  // Where the value's bytes are, beside the staging. While a thread writes or reads them, the slab
  // is the thread's too.
  enum class Home { kSlab, kWriting, kDisk, kReading };

  struct Staged {
    int chunk = -1;
    EventRef arrived;       // from the slab; empty: it is there since the program stored it
    bool is_alone = false;  // it is not in the slab, nor on its way there
    EventRef stored;        // by the program, if it is alone
  };

  struct Value {
    int64_t run = 0, site = 0, bytes = 0;
    int64_t number = 0;  // in its run, from 1
    Slab slab;
    std::vector<Staged> pieces;  // in the staging, or -1
    Home home = Home::kSlab;
    std::shared_ptr<Disk> disk;
    Extent extent;
    Status error = Status::ok();  // of the disk

    bool is_staged() const;  // all of it
  };
  using Lock = std::unique_lock<std::mutex>;
  using Sites = std::map<int64_t, std::vector<Ticket>>;

  // An execution of a program. Of what one has stored, the last values usually come back from the
  // staging: in the next one they do not leave it, unless their chunks are wanted.
  struct Run {
    Sites sites;
    int64_t program = 0;   // the site of its first store
    int64_t stored = 0;    // values so far
    int64_t returned = 0;  // values whose pieces were not all there: the number of the last, from 1
  };

  Status begin(int64_t run);
  Status set_largest(int64_t bytes);
  bool stays(Run* run, Value* value);
  Status take_chunk(StreamHandle stream, Staging::Piece piece, bool evict, int* chunk);
  Status stage(StreamHandle compute, Ticket ticket, Value* value, const std::byte* from);
  Status move_in(StreamHandle compute, Ticket ticket, Value* value, std::byte* to, bool* stayed);
  Status send_piece(Value* value, size_t index);
  Status send(Value* value);
  Status bring_piece(Ticket ticket, Value* value, size_t index, bool* brought);
  Status bring_past_staging(StreamHandle compute, Value* value, size_t index, std::byte* to);
  std::pair<int64_t, int64_t> extent_of(const Value& value, size_t index) const;
  Status prefetch(int64_t run);
  void forget(Ticket ticket);

  // engine_disk.cc
  Status begin_write(Ticket ticket, Value* value);
  void begin_read(Ticket ticket, Value* value, Slab slab);
  Status take_slab(Lock& lock, int64_t bytes, Slab* slab, bool* is_last);
  void end_io(Ticket ticket, Status status);
  // Waits until the value is in a slab or in the staging.
  Status bring_back(Lock& lock, Ticket ticket);
  Status bring_back_into(Lock& lock, Ticket ticket, Slab* slab);
  void leave_room(Lock& lock, int64_t bytes);
  void abandon(Ticket ticket, Value* value);
  void drop(int64_t run);

  std::mutex mutex_;
  StreamHandle out_{}, in_{};  // to the host and back
  bool has_streams_ = false;
  Staging staging_;
  std::map<Ticket, Value> values_;
  std::map<int64_t, Run> runs_;
  std::map<int64_t, int64_t> returned_;  // of the last run of each program, as in `Run`
  std::deque<int64_t> order_;            // of the runs
  int64_t largest_ = 0;
  std::condition_variable io_ended_;
  int64_t writing_bytes_ = 0;
  std::map<Ticket, Value> abandoned_;  // forgotten while a thread had their slabs
  Stats stats_;
};

}  // namespace jaxdirect::offload
