// What the operations share: the threads, the kernels and scratch memory.
#pragma once

#include <algorithm>
#include <vector>

#include "base/cpu_choice.h"
#include "base/thread_pool.h"
#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "cpu/memory.h"
#include "tensor/tensor.h"

namespace heartmula::cpu {

/// Work below this many element operations is not worth another chunk.
constexpr int64_t kChunkCost = 4096;

struct Device {
  explicit Device(const CpuOptions& options)
      : isa(choose_isa(options.isa)),
        kernels(*isa.kernels),
        pool(choose_cpus(cpu_topology(), options.threads, "").threads),
        scratch_of_worker(pool.threads()) {}

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

  Isa isa;
  const Kernels& kernels;
  ThreadPool pool;
  std::vector<Scratch> scratch_of_worker;
  Scratch shared;  // written by one parallel_for and read by the next
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
/// The floats of a view [1, n], or null for an empty one.
inline const float* floats_of(ConstView x) {
  return static_cast<const float*>(x.data);
}

}  // namespace heartmula::cpu
