// CPU rivals of the host-table benchmark: parallel fill and copy, a row gather, a neighbour
// sampler, and one whole mini-batch (sample, optional de-duplication, gather) for a batch-parallel
// loader. Built at run time by native.py; plain C interface for ctypes.
#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace {

// Threads that wait between calls: a gather of a few MiB must not pay for thread creation.
class Pool {
 public:
  void run(int64_t n, int threads, const std::function<void(int64_t, int64_t)>& body) {
    std::lock_guard<std::mutex> one_caller(call_);
    threads = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, n)));
    while (static_cast<int>(workers_.size()) < threads - 1) {
      int index = static_cast<int>(workers_.size()) + 1;
      workers_.emplace_back([this, index] { work(index); });
    }
    auto piece = [n, threads](int t) { return n * t / threads; };
    {
      std::lock_guard<std::mutex> lock(mutex_);
      task_ = [&](int t) { body(piece(t), piece(t + 1)); };
      width_ = threads;
      left_ = threads - 1;
      ++generation_;
    }
    start_.notify_all();
    body(piece(0), piece(1));
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return left_ == 0; });
  }

 private:
  void work(int index) {
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      start_.wait(lock, [&] { return generation_ != seen; });
      seen = generation_;
      if (index >= width_) continue;
      lock.unlock();
      task_(index);
      lock.lock();
      if (--left_ == 0) done_.notify_one();
    }
  }

  std::mutex call_, mutex_;
  std::condition_variable start_, done_;
  std::vector<std::thread> workers_;
  std::function<void(int)> task_;
  int width_ = 0, left_ = 0;
  uint64_t generation_ = 0;
};

Pool& pool() {
  static Pool* instance = new Pool;  // never destroyed: its threads wait for ever
  return *instance;
}

inline uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

struct Random {
  uint64_t state;
  uint32_t below(uint32_t n) {  // uniform in [0, n) up to 2^-32
    state = mix(state);
    return static_cast<uint32_t>((static_cast<uint64_t>(static_cast<uint32_t>(state)) * n) >> 32);
  }
};

// Streaming stores keep the gathered rows, which only the copy engine reads, out of the caches.
inline void copy_row(char* dst, const char* src, int64_t bytes, bool streaming) {
#ifdef __AVX2__
  if (streaming) {
    for (int64_t i = 0; i < bytes; i += 32)
      _mm256_stream_si256(reinterpret_cast<__m256i*>(dst + i),
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + i)));
    return;
  }
#endif
  std::memcpy(dst, src, bytes);
}

template <class Id>
void gather_range(char* dst, const char* table, const Id* ids, int64_t lo, int64_t hi,
                  int64_t row_bytes, int64_t num_rows, bool streaming) {
  bool whole = row_bytes % 32 == 0 && reinterpret_cast<uintptr_t>(dst) % 32 == 0;
  int64_t ahead = row_bytes <= 256 ? 24 : row_bytes <= 1024 ? 8 : 2;
  int64_t lines = std::min<int64_t>(row_bytes, 1024);
  for (int64_t i = lo; i < hi; ++i) {
    if (i + ahead < hi && ids[i + ahead] >= 0 && ids[i + ahead] < num_rows) {
      const char* next = table + static_cast<int64_t>(ids[i + ahead]) * row_bytes;
      for (int64_t b = 0; b < lines; b += 64) _mm_prefetch(next + b, _MM_HINT_T0);
    }
    char* out = dst + i * row_bytes;
    if (ids[i] < 0 || ids[i] >= num_rows)
      std::memset(out, 0, row_bytes);
    else
      copy_row(out, table + static_cast<int64_t>(ids[i]) * row_bytes, row_bytes,
               streaming && whole);
  }
  _mm_sfence();
}

// Floyd's draw of `fanout` of `degree` edges without replacement; -1 pads short rows.
int64_t sample_row(const int64_t* indptr, const int32_t* indices, int32_t node, int fanout,
                   Random& random, int32_t* out) {
  int64_t begin = node < 0 ? 0 : indptr[node];
  int64_t degree = node < 0 ? 0 : indptr[node + 1] - begin;
  if (degree <= fanout) {
    for (int64_t j = 0; j < fanout; ++j) out[j] = j < degree ? indices[begin + j] : -1;
    return degree;
  }
  uint32_t picked[64];
  for (int j = 0; j < fanout; ++j) {
    uint32_t last = static_cast<uint32_t>(degree - fanout + j);
    uint32_t draw = random.below(last + 1);
    if (std::find(picked, picked + j, draw) != picked + j) draw = last;
    picked[j] = draw;
  }
  for (int j = 0; j < fanout; ++j) __builtin_prefetch(indices + begin + picked[j]);
  for (int j = 0; j < fanout; ++j) out[j] = indices[begin + picked[j]];
  return fanout;
}

int64_t sample_range(const int64_t* indptr, const int32_t* indices, const int32_t* seeds,
                     int64_t lo, int64_t hi, int fanout, uint64_t seed, int32_t* out) {
  int64_t count = 0;
  for (int64_t i = lo; i < hi; ++i) {
    if (i + 16 < hi && seeds[i + 16] >= 0) __builtin_prefetch(indptr + seeds[i + 16]);
    if (i + 8 < hi && seeds[i + 8] >= 0) __builtin_prefetch(indices + indptr[seeds[i + 8]]);
    Random random{mix(seed ^ static_cast<uint64_t>(i))};
    count += sample_row(indptr, indices, seeds[i], fanout, random, out + i * fanout);
  }
  return count;
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Distinct ids of `ids` into `unique`; `inverse[i]` is the place of ids[i] (0 for a pad).
int64_t unique_ids(const int32_t* ids, int64_t n, int32_t* unique, int32_t* inverse) {
  thread_local std::vector<int64_t> slots;  // (id + 1) << 32 | place; 0 is free
  uint64_t size = 64;
  while (size < 2 * static_cast<uint64_t>(n)) size *= 2;
  slots.assign(size, 0);
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    inverse[i] = 0;
    if (ids[i] < 0) continue;
    uint64_t at = mix(ids[i]) & (size - 1);
    while (slots[at] != 0 && (slots[at] >> 32) != ids[i] + 1ll) at = (at + 1) & (size - 1);
    if (slots[at] == 0) {
      slots[at] = (ids[i] + 1ll) << 32 | count;
      unique[count++] = ids[i];
    }
    inverse[i] = static_cast<int32_t>(slots[at]);
  }
  return count;
}

}  // namespace

extern "C" {

// Finite, position-dependent float32 values in [1, 2), so that a wrong row shows.
void hm_fill(uint32_t* words, int64_t count, uint64_t seed, int threads) {
  uintptr_t page = (reinterpret_cast<uintptr_t>(words) + 4095) / 4096 * 4096;
  uintptr_t end = reinterpret_cast<uintptr_t>(words + count) / 4096 * 4096;
  if (end > page) madvise(reinterpret_cast<void*>(page), end - page, MADV_HUGEPAGE);
  pool().run(count, threads, [=](int64_t lo, int64_t hi) {
    for (int64_t i = lo; i < hi; ++i)
      words[i] = static_cast<uint32_t>(mix(seed + i) >> 41) | 0x3f800000u;
  });
}

void hm_copy(char* dst, const char* src, int64_t bytes, int threads) {
  pool().run(bytes, threads,
             [=](int64_t lo, int64_t hi) { std::memcpy(dst + lo, src + lo, hi - lo); });
}

void hm_gather(char* dst, const char* table, const int64_t* ids, int64_t n, int64_t row_bytes,
               int64_t num_rows, int streaming, int threads) {
  pool().run(n, threads, [=](int64_t lo, int64_t hi) {
    gather_range(dst, table, ids, lo, hi, row_bytes, num_rows, streaming != 0);
  });
}

int64_t hm_sample(const int64_t* indptr, const int32_t* indices, const int32_t* seeds, int64_t n,
                  int fanout, uint64_t seed, int32_t* out, int threads) {
  std::mutex lock;
  int64_t total = 0;
  pool().run(n, threads, [&](int64_t lo, int64_t hi) {
    int64_t count = sample_range(indptr, indices, seeds, lo, hi, fanout, seed, out);
    std::lock_guard<std::mutex> guard(lock);
    total += count;
  });
  return total;
}

// One mini-batch on the calling thread. `ids` [batch * (1 + f1 + f1 * f2)] holds seeds, hop 1,
// hop 2. With `unique` not null the distinct ids and their places are written and only those rows
// are read. Returns the number of rows written to `rows`; times[0] += sampling, times[1] +=
// gathering (seconds).
int64_t hm_batch(const int64_t* indptr, const int32_t* indices, const char* table,
                 int64_t row_bytes, int64_t num_rows, const int32_t* seeds, int64_t batch, int f1,
                 int f2, uint64_t seed, int32_t* ids, int32_t* unique, int32_t* inverse, char* rows,
                 double* times) {
  double begin = now();
  int32_t* hop1 = ids + batch;
  int32_t* hop2 = hop1 + batch * f1;
  std::memcpy(ids, seeds, batch * sizeof(int32_t));
  sample_range(indptr, indices, seeds, 0, batch, f1, seed, hop1);
  sample_range(indptr, indices, hop1, 0, batch * f1, f2, mix(seed), hop2);
  int64_t n = batch * (1 + f1 + static_cast<int64_t>(f1) * f2);
  const int32_t* wanted = ids;
  if (unique != nullptr) {
    n = unique_ids(ids, n, unique, inverse);
    wanted = unique;
  }
  double sampled = now();
  gather_range(rows, table, wanted, 0, n, row_bytes, num_rows, true);
  times[0] += sampled - begin;
  times[1] += now() - sampled;
  return n;
}
}
