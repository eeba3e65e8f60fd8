// src/cuda/launch.h for a host compiler.
#pragma once

#include <cuda_runtime.h>

#include <tuple>
#include <utility>

#include "cuda/runtime.h"
#include "emulated/stream.h"

namespace heartmula::cuda {

struct Grid {
  dim3 blocks;
  dim3 threads;
  size_t shared_bytes = 0;
  bool overlap = true;
  const char* file = __builtin_FILE();  // of the launch, for messages
  int line = __builtin_LINE();
};

template <typename... Parameters, typename... Arguments>
void launch(cudaStream_t stream, const Grid& grid, void (*kernel)(Parameters...), Arguments&&... arguments) {
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return;
  const std::tuple<Parameters...> values(static_cast<Parameters>(std::forward<Arguments>(arguments))...);
  emulated::Kernel work = {
      grid.blocks, grid.threads, grid.shared_bytes, grid.overlap, [kernel, values] { std::apply(kernel, values); },
      grid.file,   grid.line};
  check(emulated::launch(stream, std::move(work)), "starting a kernel");
}

}  // namespace heartmula::cuda
