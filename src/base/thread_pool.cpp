#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/error.h"

namespace heartmula {
namespace {

constexpr int kMaxThreads = 1024;
/// How long a thread waits awake before it sleeps: longer than the gap between two operations of a decode step.
constexpr std::chrono::microseconds kSpin{20};
constexpr size_t kCacheLine = 128;  // pairs of lines are fetched together on x86, and some Arm cores have lines of 128

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");  // `yield` does nothing on most cores
#endif
}

/// Spins for kSpin, then sleeps, until `word` satisfies `ready`; returns the value that did. Whoever changes the word
/// so that it may become ready calls notify_all.
template <typename Ready>
uint32_t wait_until(const std::atomic<uint32_t>& word, Ready ready) {
  uint32_t value = word.load(std::memory_order_acquire);
  if (ready(value)) return value;
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
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

}  // namespace

// A job is open from the moment its fields are set until the caller finds no chunk left. A worker joins an open job by
// raising `gate`, and only then reads the fields; the caller waits for those who joined, never for a worker that still
// sleeps. So an operation ends when its chunks are done, even if a core is taken by another program.
struct ThreadPool::State {
  static constexpr uint32_t kOpen = 1u << 31;
  struct alignas(kCacheLine) Computed {
    int64_t chunks = 0;
  };

  explicit State(int thread_count) : active(thread_count), computed(static_cast<size_t>(thread_count)) {
    try {
      for (int worker = 1; worker < thread_count; ++worker) {
        workers.emplace_back([this, worker] { serve(worker); });
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
      seen = wait_until(job_number, [seen](uint32_t number) { return number != seen; });
      if (stopping.load(std::memory_order_relaxed)) return;
      if (worker >= active.load(std::memory_order_relaxed) || !join_job()) continue;
      work(worker);
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

  /// Claims and computes chunks until there are none or somebody stopped the job.
  void work(int worker) {
    while (!abandoned.load(std::memory_order_relaxed)) {
      if (token != nullptr && token->cancelled()) {
        if (next_chunk.load(std::memory_order_relaxed) < chunks) {
          cancelled.store(true, std::memory_order_relaxed);
          abandoned.store(true, std::memory_order_relaxed);
        }
        return;
      }
      const int64_t chunk = next_chunk.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= chunks) return;
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
  int64_t chunks = 0;
  const CancelToken* token = nullptr;
  std::mutex error_mutex;
  std::exception_ptr first_error;

  alignas(kCacheLine) std::atomic<uint32_t> job_number{0};  // workers wait for it to change
  std::atomic<bool> stopping{false};
  alignas(kCacheLine) std::atomic<int> active;        // workers that take part; the others wait for it to change
  alignas(kCacheLine) std::atomic<uint32_t> gate{0};  // kOpen and the number of workers inside
  alignas(kCacheLine) std::atomic<int64_t> next_chunk{0};
  alignas(kCacheLine) std::atomic<bool> abandoned{false};
  std::atomic<bool> cancelled{false};

  std::vector<Computed> computed;  // each written by its worker only
  std::vector<std::thread> workers;
};

ThreadPool::ThreadPool(int threads) {
  if (threads < 1 || threads > kMaxThreads) {
    throw user_error("{} threads: the number must be from 1 to {}", threads, kMaxThreads);
  }
  state_ = std::make_unique<State>(threads);
}

ThreadPool::~ThreadPool() = default;

int ThreadPool::threads() const {
  return static_cast<int>(state_->workers.size()) + 1;
}

void ThreadPool::use_threads(int count) {
  const int active = std::clamp(count, 1, threads());
  if (state_->active.load(std::memory_order_relaxed) != active) state_->set_active(active);
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
  state.function = function;
  state.context = context;
  state.chunks = chunks;
  state.next_chunk.store(0, std::memory_order_relaxed);
  state.abandoned.store(false, std::memory_order_relaxed);
  state.cancelled.store(false, std::memory_order_relaxed);

  const bool shared = chunks > 1 && !state.workers.empty() && state.active.load(std::memory_order_relaxed) > 1;
  if (shared) {
    state.gate.store(State::kOpen, std::memory_order_release);
    state.job_number.fetch_add(1, std::memory_order_seq_cst);
    state.job_number.notify_all();
  }
  state.work(0);
  if (shared) {
    state.gate.fetch_and(~State::kOpen, std::memory_order_acq_rel);
    wait_until(state.gate, [](uint32_t inside) { return inside == 0; });
  }

  if (state.first_error) std::rethrow_exception(std::exchange(state.first_error, nullptr));
  if (state.cancelled.load(std::memory_order_relaxed)) throw Error(ErrorKind::kCancelled, "cancelled");
}

}  // namespace heartmula
