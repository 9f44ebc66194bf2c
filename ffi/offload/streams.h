#pragma once

// What the tensor cache needs of a device: streams that copy in order, events between them, and
// memory on both ends. On a GPU these are CUDA's; on a CPU a stream is a thread, so that the same
// engine runs, and is tested, without a GPU.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/status.h"

#ifdef JAXDIRECT_CUDA_MODULE
#include <cuda_runtime_api.h>
#endif

namespace jaxdirect::offload {

// A point in a stream's work. Copies of it are the same point; an empty one has passed.
class Event;
using EventRef = std::shared_ptr<Event>;

#ifdef JAXDIRECT_CUDA_MODULE
using StreamHandle = cudaStream_t;
#else
class WorkQueue;
using StreamHandle = WorkQueue*;  // nullptr: the calling thread, at once
#endif

// Streams of our own live as long as the process: work may still run when it ends.
Status make_stream(StreamHandle* stream);
Status copy(StreamHandle stream, std::byte* to, const std::byte* from, int64_t bytes);
Status record(StreamHandle stream, EventRef* event);
// What comes later on the stream begins after the event.
Status wait(StreamHandle stream, const EventRef& event);
// The calling thread waits.
Status synchronize(const EventRef& event);
bool has_passed(const EventRef& event);

// Memory of the device, for values on their way.
Status allocate_staging(int64_t bytes, std::byte** data);
void free_staging(std::byte* data);

// Memory of the host that copies reach: pinned where the device is a GPU. Whole pages.
inline constexpr int64_t kSlabAlignment = 4096;
Status map_slab(int64_t bytes, std::byte** data);
void unmap_slab(std::byte* data, int64_t bytes);

// Writes a ticket to every pair of words; compares the first pair with what is expected, and takes
// the value for lost where it differs: `value` is filled with NaNs, and the step fails.
using Ticket = uint64_t;
Status write_ticket(StreamHandle stream, std::span<uint32_t> words, Ticket ticket);
Status check_ticket(StreamHandle stream, std::span<const uint32_t> words, Ticket expected,
                    std::span<std::byte> value);

}  // namespace jaxdirect::offload
