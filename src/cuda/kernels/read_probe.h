// A long read of device memory: the limit that frames are compared with.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace heartmula::cuda {

/// Reads `bytes` (a multiple of 16) once; `result` keeps the compiler from leaving it out.
void read_all(cudaStream_t stream, const void* data, int64_t bytes, uint32_t* result, int multiprocessors);

}  // namespace heartmula::cuda
