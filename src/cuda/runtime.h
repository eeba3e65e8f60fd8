// What the CUDA runtime gives: memory, streams, events, graphs, each call checked.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <string>
#include <utility>

namespace heartmula::cuda {

/// The least major number of a compute capability that there are kernels for.
constexpr int kLeastMajor = 8;

/// 13000 as "13.0".
std::string version_text(int version);

/// Throws Error(kFailure), or Error(kUser) where the user can help (no memory, no driver), with what was being done.
void check(cudaError_t status, const char* what);

/// Device memory, not initialised. Throws Error(kUser) with both numbers if there is too little.
std::shared_ptr<void> allocate_device(size_t bytes);
/// Host memory that the device reads and writes, too (pinned).
std::shared_ptr<void> allocate_pinned(size_t bytes);

}  // namespace heartmula::cuda
