// A persistent pool of threads that share the chunks of one operation after another.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "heartmula/cancel.h"

namespace heartmula {

/// The calling thread is worker 0 and takes part. Each worker has an equal share of the chunks, the same in every
/// parallel_for of as many, and who is done with his takes from the others', one by one, so that cores of different
/// speed end together. Who computes a chunk never changes its result. One parallel_for at a time.
class ThreadPool {
 public:
  /// `threads` >= 1, the caller included. Worker i stays on the i-th of `cpus`, of which there are none or at least
  /// `threads`; the thread that calls parallel_for is worker 0 and stays pinned after it (see unpin_thread).
  explicit ThreadPool(int threads, std::vector<int> cpus = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;
  /// How many chunks each worker has computed so far, the caller's first: who took part.
  std::vector<int64_t> chunks_by_worker() const;

  /// From the next parallel_for on, workers 0 to count - 1 take part (at least one, at most all). The others sleep and
  /// cost nothing. A change wakes or parks threads, which takes longer than a small operation. May be called from any
  /// thread.
  void use_threads(int count);

  /// Looked at before each chunk is claimed; null for none.
  void set_cancel_token(const CancelToken* token);

  /// Calls body(chunk, worker) for every chunk in [0, chunks), worker in [0, threads()); chunks < 2^32.
  /// Throws Error(kCancelled) if the token was raised before every chunk was done, and the first exception of a body;
  /// in both cases no body runs any more when it throws.
  template <typename Body>
  void parallel_for(int64_t chunks, const Body& body) {
    run(
        chunks,
        [](const void* context, int64_t chunk, int worker) { (*static_cast<const Body*>(context))(chunk, worker); },
        &body);
  }

 private:
  using ChunkFunction = void (*)(const void* context, int64_t chunk, int worker);
  void run(int64_t chunks, ChunkFunction function, const void* context);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace heartmula
