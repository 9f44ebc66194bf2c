#include "offload/engine.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "common/integers.h"

namespace jaxdirect::offload {
namespace {

std::atomic<Ticket> next_ticket{1};
std::atomic<int64_t> staging_limit{0};

size_t pieces_of(int64_t bytes, int64_t chunk_bytes) {
  return static_cast<size_t>(ceil_div(bytes, chunk_bytes));
}

struct Engines {
  std::mutex mutex;
  std::map<int64_t, std::unique_ptr<Engine>> by_device;

  static Engines& instance() {
    static Engines* const engines = new Engines;  // handlers may run when the process ends
    return *engines;
  }

  // They are never freed. Who waits for one must not keep others from theirs.
  std::vector<Engine*> all() {
    std::lock_guard<std::mutex> lock(mutex);
    std::vector<Engine*> found;
    for (const auto& [device, engine] : by_device) found.push_back(engine.get());
    return found;
  }
};

}  // namespace

void Stats::add(const Stats& other) {
  stored += other.stored, stored_bytes += other.stored_bytes;
  fetched += other.fetched, fetched_bytes += other.fetched_bytes;
  forwarded += other.forwarded, prefetched += other.prefetched;
  dropped += other.dropped, waiting += other.waiting, spilled += other.spilled;
  disk_waits += other.disk_waits, sent_bytes += other.sent_bytes;
  staging_bytes += other.staging_bytes;
}

bool Engine::Value::is_staged() const {
  return std::all_of(pieces.begin(), pieces.end(), [](const Staged& p) { return p.chunk >= 0; });
}

// Where a piece begins in its value, and how long it is.
std::pair<int64_t, int64_t> Engine::extent_of(const Value& value, size_t index) const {
  const int64_t begin = static_cast<int64_t>(index) * staging_.chunk_bytes();
  return {begin, std::min(staging_.chunk_bytes(), value.bytes - begin)};
}

Engine& Engine::of(int64_t device) {
  Engines& engines = Engines::instance();
  std::lock_guard<std::mutex> lock(engines.mutex);
  std::unique_ptr<Engine>& engine = engines.by_device[device];
  if (engine == nullptr) engine = std::make_unique<Engine>();
  return *engine;
}

Stats Engine::all_stats() {
  Stats all;
  for (Engine* const engine : Engines::instance().all()) {
    std::lock_guard<std::mutex> lock(engine->mutex_);
    engine->stats_.waiting = static_cast<int64_t>(engine->values_.size());
    engine->stats_.staging_bytes = engine->staging_.bytes();
    all.add(engine->stats_);
  }
  return all;
}

Status Engine::limit_staging(int64_t bytes) {
  staging_limit = bytes;
  Status first = Status::ok();
  for (Engine* const engine : Engines::instance().all()) {
    Lock lock(engine->mutex_);
    Status status = engine->set_largest(0);  // the next value finds it as it should be
    if (first.is_ok()) first = std::move(status);
  }
  return first;
}

Status Engine::clear_all() {
  Status first = Status::ok();
  for (Engine* const engine : Engines::instance().all()) {
    Lock lock(engine->mutex_);
    while (!engine->order_.empty()) engine->drop(engine->order_.front());
    engine->io_ended_.wait(lock, [&] { return engine->abandoned_.empty(); });
    Status status = engine->set_largest(0);
    if (first.is_ok()) first = std::move(status);
  }
  Status status = SlabPool::instance().clear();
  return first.is_ok() ? std::move(status) : std::move(first);
}

// The first call of an execution.
Status Engine::begin(int64_t run) {
  if (!has_streams_) {
    JAXDIRECT_RETURN_IF_ERROR(make_stream(&out_));
    JAXDIRECT_RETURN_IF_ERROR(make_stream(&in_));
    has_streams_ = true;
  }
  if (!runs_.try_emplace(run).second) return Status::ok();
  order_.push_back(run);
  while (order_.size() > kInFlight) drop(order_.front());
  return Status::ok();
}

// Makes the staging for values of that size. What is in it goes to slabs, if it is not there too.
Status Engine::set_largest(int64_t bytes) {
  for (auto& [ticket, value] : values_) JAXDIRECT_RETURN_IF_ERROR(send(&value));
  largest_ = 0;
  const Status status = staging_.resize(bytes, staging_limit);
  for (auto& [ticket, value] : values_) {
    value.pieces.assign(pieces_of(value.bytes, staging_.chunk_bytes()), {});
  }
  if (status.is_ok()) largest_ = bytes;
  return status;
}

// A chunk that `stream` may write to when what it has been given is done; -1 if there is none. With
// `evict` that is the oldest one's, which is in its slab too, or goes there.
Status Engine::take_chunk(StreamHandle stream, Staging::Piece piece, bool evict, int* chunk) {
  *chunk = staging_.take(piece);
  if (*chunk < 0 && evict) {
    const Staging::Piece oldest = *staging_.oldest();
    Value& owner = values_.at(oldest.ticket);
    JAXDIRECT_RETURN_IF_ERROR(send_piece(&owner, oldest.index));
    staging_.give(std::exchange(owner.pieces[oldest.index], {}).chunk);
    *chunk = staging_.take(piece);
  }
  if (*chunk < 0) return Status::ok();
  std::vector<EventRef>& users = staging_.users(*chunk);
  Status status = Status::ok();
  for (const EventRef& user : users) {
    if (status.is_ok()) status = wait(stream, user);
  }
  if (status.is_ok()) {
    users.clear();
  } else {
    staging_.give(std::exchange(*chunk, -1));
  }
  return status;
}

// Whether the value is one of the last of its program, which come back before they have left.
bool Engine::stays(Run* run, Value* value) {
  if (run->stored == 0) run->program = value->site;
  value->number = ++run->stored;
  const auto before = returned_.find(run->program);
  return before != returned_.end() && value->number > before->second;
}

Status Engine::stage(StreamHandle compute, Ticket ticket, Value* value, const std::byte* from) {
  if (value->bytes > largest_) JAXDIRECT_RETURN_IF_ERROR(set_largest(value->bytes));
  value->pieces.resize(pieces_of(value->bytes, staging_.chunk_bytes()));
  for (size_t i = 0; i < value->pieces.size(); ++i) {
    const auto [begin, bytes] = extent_of(*value, i);
    Staged& piece = value->pieces[i];
    JAXDIRECT_RETURN_IF_ERROR(take_chunk(compute, {ticket, i}, /*evict=*/true, &piece.chunk));
    JAXDIRECT_RETURN_IF_ERROR(copy(compute, staging_.at(piece.chunk), from + begin, bytes));
    piece.is_alone = true;
    JAXDIRECT_RETURN_IF_ERROR(record(compute, &piece.stored));
    staging_.users(piece.chunk).push_back(piece.stored);
  }
  return Status::ok();
}

// Copies a piece that the program has stored to its slab, if that was not done.
Status Engine::send_piece(Value* value, size_t index) {
  Staged& piece = value->pieces[index];
  if (!piece.is_alone) return Status::ok();
  const auto [begin, bytes] = extent_of(*value, index);
  EventRef left;
  JAXDIRECT_RETURN_IF_ERROR(wait(out_, piece.stored));
  JAXDIRECT_RETURN_IF_ERROR(wait(out_, value->slab.used));
  JAXDIRECT_RETURN_IF_ERROR(copy(out_, value->slab.data + begin, staging_.at(piece.chunk), bytes));
  JAXDIRECT_RETURN_IF_ERROR(record(out_, &left));
  staging_.users(piece.chunk).push_back(left);
  value->slab.used = std::move(left);
  piece.is_alone = false;
  stats_.sent_bytes += bytes;
  return Status::ok();
}

Status Engine::send(Value* value) {
  for (size_t i = 0; i < value->pieces.size(); ++i) {
    JAXDIRECT_RETURN_IF_ERROR(send_piece(value, i));
  }
  return Status::ok();
}

Status Engine::store(StreamHandle compute, const Call& call, std::span<const std::byte> value,
                     std::byte* same, std::span<uint32_t> words) {
  const auto bytes = static_cast<int64_t>(value.size());
  Lock lock(mutex_);
  if (call.on_disk) leave_room(lock, bytes);
  Slab slab;
  bool is_last = false;
  JAXDIRECT_RETURN_IF_ERROR(take_slab(lock, bytes, &slab, &is_last));
  const Ticket ticket = next_ticket++;
  Value& moved = values_[ticket];
  moved.run = call.run;
  moved.site = call.site;
  moved.bytes = bytes;
  moved.slab = std::move(slab);
  Status status = begin(call.run);
  if (status.is_ok()) status = stage(compute, ticket, &moved, value.data());
  if (status.is_ok() && same != value.data())
    status = copy(compute, same, value.data(), moved.bytes);
  if (status.is_ok()) status = write_ticket(compute, words, ticket);
  if (status.is_ok() && !stays(&runs_.at(call.run), &moved)) status = send(&moved);
  if (status.is_ok() && (call.on_disk || is_last)) status = begin_write(ticket, &moved);
  if (!status.is_ok()) {
    forget(ticket);
    return status;
  }
  runs_.at(call.run).sites[call.site].push_back(ticket);
  ++stats_.stored;
  stats_.stored_bytes += moved.bytes;
  return Status::ok();
}

// Copies a piece from its slab into a free chunk, if there is one.
Status Engine::bring_piece(Ticket ticket, Value* value, size_t index, bool* brought) {
  int chunk = -1;
  JAXDIRECT_RETURN_IF_ERROR(take_chunk(in_, {ticket, index}, /*evict=*/false, &chunk));
  *brought = chunk >= 0;
  if (!*brought) return Status::ok();
  const auto [begin, bytes] = extent_of(*value, index);
  EventRef arrived;
  Status status = wait(in_, value->slab.used);
  if (status.is_ok()) status = copy(in_, staging_.at(chunk), value->slab.data + begin, bytes);
  if (status.is_ok()) status = record(in_, &arrived);
  if (!status.is_ok()) {
    staging_.give(chunk);
    return status;
  }
  staging_.users(chunk).push_back(arrived);
  value->slab.used = arrived;
  value->pieces[index] = {chunk, std::move(arrived), /*is_alone=*/false, nullptr};
  return Status::ok();
}

// Copies a piece from its slab to where it goes, which `compute` gives only when it is here.
Status Engine::bring_past_staging(StreamHandle compute, Value* value, size_t index, std::byte* to) {
  const auto [begin, bytes] = extent_of(*value, index);
  EventRef ready, done;
  JAXDIRECT_RETURN_IF_ERROR(record(compute, &ready));
  JAXDIRECT_RETURN_IF_ERROR(wait(in_, ready));
  JAXDIRECT_RETURN_IF_ERROR(wait(in_, value->slab.used));
  JAXDIRECT_RETURN_IF_ERROR(copy(in_, to + begin, value->slab.data + begin, bytes));
  JAXDIRECT_RETURN_IF_ERROR(record(in_, &done));
  JAXDIRECT_RETURN_IF_ERROR(wait(compute, done));
  value->slab.used = std::move(done);
  return Status::ok();
}

Status Engine::move_in(StreamHandle compute, Ticket ticket, Value* value, std::byte* to,
                       bool* stayed) {
  bool forwarded = true, in_time = true;
  for (size_t i = 0; i < value->pieces.size(); ++i) {
    Staged& piece = value->pieces[i];
    bool is_staged = piece.chunk >= 0;
    in_time &= is_staged;
    if (!is_staged) JAXDIRECT_RETURN_IF_ERROR(bring_piece(ticket, value, i, &is_staged));
    if (!is_staged) {
      JAXDIRECT_RETURN_IF_ERROR(bring_past_staging(compute, value, i, to));
      continue;
    }
    // What the program itself put there is there.
    forwarded &= piece.arrived == nullptr;
    JAXDIRECT_RETURN_IF_ERROR(wait(compute, piece.arrived));
    const auto [begin, bytes] = extent_of(*value, i);
    EventRef done;
    JAXDIRECT_RETURN_IF_ERROR(copy(compute, to + begin, staging_.at(piece.chunk), bytes));
    JAXDIRECT_RETURN_IF_ERROR(record(compute, &done));
    staging_.users(piece.chunk).push_back(std::move(done));
    staging_.give(std::exchange(piece, {}).chunk);
  }
  if (in_time) ++(forwarded ? stats_.forwarded : stats_.prefetched);
  *stayed = in_time && forwarded;
  return Status::ok();
}

Status Engine::fetch(StreamHandle compute, const Call& call, std::span<const uint32_t> words,
                     std::span<std::byte> value) {
  if (words.size() < 2) return Status::ok();  // a batch of none
  Lock lock(mutex_);
  auto run = runs_.find(call.run);
  auto site = run == runs_.end() ? Sites::iterator() : run->second.sites.find(call.site);
  if (run == runs_.end() || site == run->second.sites.end()) {
    return Status::error(
        "offload: a backward pass asks for a value that its program has not stored, or has "
        "fetched before; forward and backward pass must be one program: wrap the whole step in "
        "jax.jit");
  }
  const Ticket ticket = site->second.back();
  Value& found = values_.at(ticket);
  if (found.bytes != static_cast<int64_t>(value.size())) {
    return Status::error("offload: a value of ", static_cast<int64_t>(value.size()),
                         " bytes is asked for where one of ", found.bytes, " was stored last");
  }
  JAXDIRECT_RETURN_IF_ERROR(bring_back(lock, ticket));
  bool stayed = false;
  JAXDIRECT_RETURN_IF_ERROR(move_in(compute, ticket, &found, value.data(), &stayed));
  JAXDIRECT_RETURN_IF_ERROR(check_ticket(compute, words, ticket, value));
  ++stats_.fetched;
  stats_.fetched_bytes += found.bytes;
  run = runs_.find(call.run);  // others may have come while this one waited for the disk
  site = run->second.sites.find(call.site);
  site->second.pop_back();
  if (site->second.empty()) run->second.sites.erase(site);
  if (!stayed) run->second.returned = std::max(run->second.returned, found.number);
  forget(ticket);
  if (run->second.sites.empty()) {
    returned_[run->second.program] = run->second.returned;
    drop(call.run);
    return Status::ok();
  }
  (void)prefetch(call.run);  // this fetch is done; an error is the next one's, which copies itself
  return Status::ok();
}

// The newest values that wait, as far as the staging has room; of those on the disk, as many again.
Status Engine::prefetch(int64_t run) {
  bool has_room = true;
  int64_t ahead = 0;  // read or being read, and not in the staging yet
  for (auto next = values_.rbegin(); next != values_.rend(); ++next) {
    auto& [ticket, value] = *next;
    if (value.run != run || value.is_staged()) continue;
    if (value.home == Home::kDisk && value.error.is_ok()) {
      Slab slab;
      const bool is_enough = ahead > 0 && ahead + value.bytes > staging_.bytes();
      if (is_enough || !SlabPool::instance().take(value.bytes, &slab).is_ok()) return Status::ok();
      begin_read(ticket, &value, std::move(slab));
    }
    if (value.disk != nullptr && value.home != Home::kWriting) ahead += value.bytes;
    if (value.slab.data == nullptr || value.home == Home::kReading) continue;
    for (size_t i = 0; has_room && i < value.pieces.size(); ++i) {
      if (value.pieces[i].chunk >= 0) continue;
      JAXDIRECT_RETURN_IF_ERROR(bring_piece(ticket, &value, i, &has_room));
    }
  }
  return Status::ok();
}

// The value has been copied or is given up. Its slab and its chunks know what still uses them.
void Engine::forget(Ticket ticket) {
  const auto found = values_.find(ticket);
  for (const Staged& piece : found->second.pieces) {
    if (piece.chunk >= 0) staging_.give(piece.chunk);
  }
  abandon(ticket, &found->second);
  values_.erase(found);
}

void Engine::drop(int64_t run) {
  const auto found = runs_.find(run);
  for (const auto& [site, tickets] : found->second.sites) {
    for (const Ticket ticket : tickets) forget(ticket);
    stats_.dropped += static_cast<int64_t>(tickets.size());
  }
  runs_.erase(found);
  order_.erase(std::find(order_.begin(), order_.end(), run));
}

}  // namespace jaxdirect::offload
