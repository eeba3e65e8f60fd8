// Products of many rows by cuBLASLt where it is installed and faster, else by our own kernels.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <string>

#include "cuda/cublas_lt.h"
#include "cuda/kernels/gemm.h"

namespace heartmula::cuda {

/// On the current device, from one thread and stream. Who computes a product depends on its weight and epilogue, never
/// on the number of rows.
class ManyProducts {
 public:
  ManyProducts() : library_(CublasLt::open()) {}

  /// As gemm does. May allocate scratch when a product is larger than those before: not in a captured graph.
  void multiply(cudaStream_t stream, View out, const GemmInput& input, const GemmWeight& weight,
                const GemmEpilogue& epilogue);

  /// Of the device: other products on it need not ask again.
  const GpuLimits& limits() const { return limits_; }
  /// The library in use, or "".
  std::string description() const { return library_ == nullptr ? "" : library_->description(); }

 private:
  bool by_library(cudaStream_t stream, View out, const GemmInput& input, const GemmWeight& weight,
                  const GemmEpilogue& epilogue);
  View scratch_for(DType dtype, int64_t rows, int64_t cols);

  std::unique_ptr<CublasLt> library_;  // or null
  GpuLimits limits_ = gpu_limits();
  std::shared_ptr<void> scratch_;
  int64_t scratch_bytes_ = 0;
};

}  // namespace heartmula::cuda
