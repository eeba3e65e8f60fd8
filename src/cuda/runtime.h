// What the CUDA runtime gives: memory, streams, events, graphs, each call checked.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <utility>

namespace heartmula::cuda {

/// Throws Error(kFailure), or Error(kUser) where the user can help (no memory, no driver), with what was being done.
void check(cudaError_t status, const char* what);

/// Device memory, not initialised. Throws Error(kUser) with both numbers if there is too little.
std::shared_ptr<void> allocate_device(size_t bytes);
/// Host memory that the device reads and writes, too (pinned).
std::shared_ptr<void> allocate_pinned(size_t bytes);

}  // namespace heartmula::cuda
