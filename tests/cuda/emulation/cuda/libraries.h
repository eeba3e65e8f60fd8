// src/cuda/libraries.h for a host compiler: none that would look for a real GPU.
#pragma once

namespace heartmula::cuda {

inline constexpr const char* kCublasLtNames[] = {"no-cublasLt-on-an-emulated-gpu"};

}  // namespace heartmula::cuda
