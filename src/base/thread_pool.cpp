#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <span>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/affinity.h"
#include "base/error.h"

namespace heartmula {
namespace {

constexpr int kMaxThreads = 1024;
/// How long a worker waits awake for the next operation before it sleeps: longer than sampling a code takes, for which
/// the others have nothing to do. On a machine busy with other programs a sleeper was back after 2 ms only.
constexpr std::chrono::microseconds kWorkerSpin{100};
/// How long the caller waits awake for those who still compute. They need it less than that, or have lost their core:
/// then it may be this one that they wait for.
constexpr std::chrono::microseconds kCallerSpin{20};
constexpr size_t kCacheLine = 128;  // pairs of lines are fetched together on x86, and some Arm cores have lines of 128

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");  // `yield` does nothing on most cores
#endif
}

/// Spins for `spin`, then sleeps, until `word` satisfies `ready`; returns the value that did. Whoever changes the word
/// so that it may become ready calls notify_all.
template <typename Ready>
uint32_t wait_until(const std::atomic<uint32_t>& word, std::chrono::microseconds spin, Ready ready) {
  uint32_t value = word.load(std::memory_order_acquire);
  if (ready(value)) return value;
  const auto deadline = std::chrono::steady_clock::now() + spin;
  do {
    for (int i = 0; i < 16; ++i) {
      relax();
      value = word.load(std::memory_order_acquire);
      if (ready(value)) return value;
    }
  } while (std::chrono::steady_clock::now() < deadline);
  while (!ready(value)) {
    word.wait(value, std::memory_order_acquire);
    value = word.load(std::memory_order_acquire);
  }
  return value;
}

/// The chunks of one worker that nobody has claimed yet. He takes them from the front and who has none left from the
/// back, so that from one operation to the next a worker gets the same chunks, whose data his caches still hold.
class alignas(kCacheLine) Share {
 public:
  /// While nobody claims.
  void assign(uint32_t begin, uint32_t end) { range_.store(pack(begin, end), std::memory_order_relaxed); }
  bool empty() const { return empty(range_.load(std::memory_order_relaxed)); }

  /// A chunk, or -1 if there is none left.
  int64_t take_first() {
    return take([](uint32_t& begin, uint32_t&) { return begin++; });
  }
  int64_t take_last() {
    return take([](uint32_t&, uint32_t& end) { return --end; });
  }

 private:
  static uint64_t pack(uint32_t begin, uint32_t end) { return uint64_t{begin} << 32 | end; }
  static bool empty(uint64_t range) { return range >> 32 == (range & 0xFFFFFFFFu); }

  template <typename Choose>
  int64_t take(Choose choose) {
    uint64_t range = range_.load(std::memory_order_relaxed);
    while (!empty(range)) {
      auto begin = static_cast<uint32_t>(range >> 32);
      auto end = static_cast<uint32_t>(range);
      const uint32_t chunk = choose(begin, end);
      if (range_.compare_exchange_weak(range, pack(begin, end), std::memory_order_relaxed)) return chunk;
    }
    return -1;
  }

  std::atomic<uint64_t> range_{0};
};

Error cannot_pin(int cpu) {
  return failure("cannot keep a thread on cpu {}: the system refuses; leave out --cpus", cpu);
}

}  // namespace

// A job is open from the moment its fields are set until the caller finds no chunk left. A worker joins an open job by
// raising `gate`, and only then reads the fields; the caller waits for those who joined, never for a worker that still
// sleeps. So an operation ends when its chunks are done, even if a core is taken by another program.
struct ThreadPool::State {
  static constexpr uint32_t kOpen = 1u << 31;
  struct alignas(kCacheLine) Computed {
    int64_t chunks = 0;
  };

  State(int thread_count, std::vector<int> pinned_to)
      : cpus(std::move(pinned_to)),
        limit(thread_count),
        active(thread_count),
        shares(static_cast<size_t>(thread_count)),
        computed(static_cast<size_t>(thread_count)) {
    try {
      for (int worker = 1; worker < thread_count; ++worker) {
        workers.emplace_back([this, worker] { serve(worker); });
        if (!cpus.empty() && !pin_thread(workers.back(), cpus[static_cast<size_t>(worker)])) {
          stop();
          throw cannot_pin(cpus[static_cast<size_t>(worker)]);
        }
      }
    } catch (const std::system_error& error) {
      stop();
      throw failure("cannot start {} threads: {}", thread_count, error.code().message());
    }
  }

  ~State() { stop(); }

  void stop() {
    stopping.store(true, std::memory_order_relaxed);
    set_active(kMaxThreads);
    job_number.fetch_add(1, std::memory_order_seq_cst);
    job_number.notify_all();
    for (std::thread& thread : workers) thread.join();
    workers.clear();
  }

  void serve(int worker) {
    uint32_t seen = 0;
    while (true) {
      for (int count = active.load(std::memory_order_acquire); worker >= count; count = active.load()) {
        active.wait(count, std::memory_order_acquire);
      }
      seen = wait_until(job_number, kWorkerSpin, [seen](uint32_t number) { return number != seen; });
      if (stopping.load(std::memory_order_relaxed)) return;
      if (!join_job()) continue;
      if (worker < active.load(std::memory_order_relaxed)) work(worker);         // does not change while a job is open
      if (gate.fetch_sub(1, std::memory_order_acq_rel) == 1) gate.notify_all();  // closed, and nobody is left
    }
  }

  void set_active(int count) {
    active.store(count, std::memory_order_seq_cst);
    active.notify_all();
  }

  bool join_job() {
    uint32_t value = gate.load(std::memory_order_relaxed);
    while ((value & kOpen) != 0) {
      if (gate.compare_exchange_weak(value, value + 1, std::memory_order_acq_rel, std::memory_order_relaxed))
        return true;
    }
    return false;
  }

  int64_t claim(int worker) {
    const auto own = static_cast<size_t>(worker);
    int64_t chunk = shares[own].take_first();
    for (size_t i = 1; chunk < 0 && i < sharers; ++i) chunk = shares[(own + i) % sharers].take_last();
    return chunk;
  }

  /// Claims and computes chunks until there are none or somebody stopped the job.
  void work(int worker) {
    while (!abandoned.load(std::memory_order_relaxed)) {
      if (token != nullptr && token->cancelled()) {
        const std::span<const Share> open(shares.data(), sharers);
        if (!std::all_of(open.begin(), open.end(), [](const Share& share) { return share.empty(); })) {
          cancelled.store(true, std::memory_order_relaxed);
          abandoned.store(true, std::memory_order_relaxed);
        }
        return;
      }
      const int64_t chunk = claim(worker);
      if (chunk < 0) return;
      try {
        function(context, chunk, worker);
        ++computed[static_cast<size_t>(worker)].chunks;
      } catch (...) {
        const std::lock_guard lock(error_mutex);
        if (!first_error) first_error = std::current_exception();
        abandoned.store(true, std::memory_order_relaxed);
      }
    }
  }

  // The job. Written by the caller while the gate is closed and empty.
  ChunkFunction function = nullptr;
  const void* context = nullptr;
  size_t sharers = 1;  // workers that the chunks were shared out to
  const CancelToken* token = nullptr;
  std::mutex error_mutex;
  std::exception_ptr first_error;

  const std::vector<int> cpus;                              // of the workers, or empty
  std::atomic<int> limit;                                   // of workers, by use_threads
  alignas(kCacheLine) std::atomic<uint32_t> job_number{0};  // workers wait for it to change
  std::atomic<bool> stopping{false};
  alignas(kCacheLine) std::atomic<int> active;        // workers that take part; the others wait for it to change
  alignas(kCacheLine) std::atomic<uint32_t> gate{0};  // kOpen and the number of workers inside
  alignas(kCacheLine) std::atomic<bool> abandoned{false};
  std::atomic<bool> cancelled{false};

  std::vector<Share> shares;       // one for each worker
  std::vector<Computed> computed;  // each written by its worker only
  std::vector<std::thread> workers;
};

ThreadPool::ThreadPool(int threads, std::vector<int> cpus) {
  if (threads < 1 || threads > kMaxThreads) {
    throw user_error("{} threads: the number must be from 1 to {}", threads, kMaxThreads);
  }
  state_ = std::make_unique<State>(threads, std::move(cpus));
}

ThreadPool::~ThreadPool() = default;

int ThreadPool::threads() const {
  return static_cast<int>(state_->workers.size()) + 1;
}

void ThreadPool::use_threads(int count) {
  state_->limit.store(std::clamp(count, 1, threads()), std::memory_order_relaxed);
}

std::vector<int64_t> ThreadPool::chunks_by_worker() const {
  std::vector<int64_t> chunks;
  for (const State::Computed& worker : state_->computed) chunks.push_back(worker.chunks);
  return chunks;
}

void ThreadPool::set_cancel_token(const CancelToken* token) {
  state_->token = token;
}

void ThreadPool::run(int64_t chunks, ChunkFunction function, const void* context) {
  State& state = *state_;
  if (!state.cpus.empty() && !pin_thread(state.cpus[0])) throw cannot_pin(state.cpus[0]);
  state.function = function;
  state.context = context;
  state.abandoned.store(false, std::memory_order_relaxed);
  state.cancelled.store(false, std::memory_order_relaxed);

  const int workers = state.limit.load(std::memory_order_relaxed);
  const bool shared = chunks > 1 && workers > 1;
  const int64_t sharers = shared ? workers : 1;
  const auto share_begin = [&](int64_t worker) { return static_cast<uint32_t>(chunks * worker / sharers); };
  state.sharers = static_cast<size_t>(sharers);
  for (int64_t i = 0; i < sharers; ++i) {
    state.shares[static_cast<size_t>(i)].assign(share_begin(i), share_begin(i + 1));
  }
  if (shared) {
    if (state.active.load(std::memory_order_relaxed) != workers) state.set_active(workers);
    state.gate.store(State::kOpen, std::memory_order_release);
    state.job_number.fetch_add(1, std::memory_order_seq_cst);
    state.job_number.notify_all();
  }
  state.work(0);
  if (shared) {
    state.gate.fetch_and(~State::kOpen, std::memory_order_acq_rel);
    wait_until(state.gate, kCallerSpin, [](uint32_t inside) { return inside == 0; });
  }

  if (state.first_error) std::rethrow_exception(std::exchange(state.first_error, nullptr));
  if (state.cancelled.load(std::memory_order_relaxed)) throw Error(ErrorKind::kCancelled, "cancelled");
}

}  // namespace heartmula
