// What the operations share: the threads, the kernels and scratch memory.
#pragma once

#include <algorithm>
#include <atomic>
#include <vector>

#include "base/cpu_choice.h"
#include "base/cpu_info.h"
#include "base/thread_pool.h"
#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "cpu/memory.h"
#include "tensor/tensor.h"

namespace heartmula::cpu {

/// Work below this many element operations is not worth another chunk.
constexpr int64_t kChunkCost = 4096;
/// Up to as many rows (a guidance pair, with a draft) memory is the limit of a product, beyond it soon arithmetic.
constexpr int64_t kStreamRows = 4;

inline int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/// Elements from one row of a matrix to the next: rows that lay a power of two apart would fall into the same sets of
/// the cache, so 16 words more than full lines.
inline int64_t row_stride(DType dtype, int64_t cols) {
  const int64_t line = 64 / static_cast<int64_t>(dtype_size(dtype));
  return divide_up(cols, line) * line + line;
}

struct Device {
  explicit Device(const CpuOptions& options)
      : isa(choose_isa(options.isa)),
        kernels(*isa.kernels),
        choice(choose(options)),
        pool(choice.threads, choice.pinned ? choice.cpus : std::vector<int>()),
        limit(choice.threads),
        stream_threads(choice.threads),
        scratch_of_worker(static_cast<size_t>(choice.threads)),
        lock_weights(options.lock_weights) {}

  /// For each product, which say what kind of step it is: the operations between them do as they do, since to change
  /// the number of threads takes time.
  void use_threads_for(int64_t rows) {
    pool.use_threads(
        std::min(limit.load(std::memory_order_relaxed), rows <= kStreamRows ? stream_threads : choice.threads));
  }

  /// Scratch of at least `bytes` for each worker, to be asked for before parallel_for.
  void reserve_scratch(size_t bytes) {
    for (Scratch& scratch : scratch_of_worker) scratch.reserve(bytes);
  }
  void* scratch(int worker) const { return scratch_of_worker[static_cast<size_t>(worker)].data(); }

  /// body(item, worker) for items that cost about `cost` element operations each.
  template <typename Body>
  void for_each(int64_t items, int64_t cost, const Body& body) {
    if (items == 0) return;
    const int64_t worthwhile = std::max<int64_t>(1, items * std::max<int64_t>(1, cost) / kChunkCost);
    const int64_t chunks = std::min({items, worthwhile, int64_t{8} * pool.threads()});
    pool.parallel_for(chunks, [&](int64_t chunk, int worker) {
      for (int64_t i = items * chunk / chunks; i < items * (chunk + 1) / chunks; ++i) body(i, worker);
    });
  }

  static CpuChoice choose(const CpuOptions& options) {
    const bool asked = options.threads > 0 || !options.cpus.empty();
    const int threads = asked ? options.threads : threads_from_environment();
    CpuChoice choice = choose_cpus(cpu_topology(), threads, options.cpus);
    if (options.cpus_backwards && choice.pinned) {
      std::reverse(choice.cpus.begin(), choice.cpus.begin() + choice.threads);
    }
    return choice;
  }

  Isa isa;
  const Kernels& kernels;
  CpuChoice choice;
  ThreadPool pool;
  std::atomic<int> limit;  // of threads, for all operations
  int stream_threads;      // as many as read memory fastest
  std::vector<Scratch> scratch_of_worker;
  Scratch shared;   // written by one parallel_for and read by the next
  Scratch between;  // the same, between two products of one operation
  bool lock_weights = false;
  bool fetch_ahead = cpu_info().is_intel;  // its memory gives a third less to a thread that does not ask in advance
};

inline Element element_of(DType dtype) {
  return dtype == DType::kBF16 ? Element::kBF16 : Element::kF32;
}

inline Strip row_of(View x, int64_t row) {
  return {x.slice_rows(row, 1).data, element_of(x.dtype)};
}
inline ConstStrip row_of(ConstView x, int64_t row) {
  return {x.slice_rows(row, 1).data, element_of(x.dtype)};
}

}  // namespace heartmula::cpu
