// NVIDIA's own products, where its library is installed: loaded at run time, never needed.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>

#include "cuda/kernels/gemm.h"
#include "tensor/tensor.h"

namespace heartmula::cuda {

/// Products of bf16 by cuBLASLt on the current device, from one thread.
///
/// A weight's shape, the dtype of the output and whether there is a bias choose the algorithm, once, never the number
/// of rows; sums are not split over k. So a row's bits do not depend on the other rows; another card or version may
/// give others.
class CublasLt {
 public:
  /// Null where the library is missing, or where HEARTMULA_CUBLASLT is "off". Throws Error(kUser) if that variable
  /// names a file that cannot be used.
  static std::unique_ptr<CublasLt> open();
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  /// "cuBLASLt 13.0.2"
  std::string description() const;

  /// out = x W^T (+ bias [n], f32); x and W bf16, out f32 or bf16. False, with nothing done, where the library has no
  /// algorithm or its conditions are not met: always or never for a weight and tensors made alike. Safe in a captured
  /// graph once the same product has been run before.
  bool multiply(cudaStream_t stream, View out, ConstView x, const GemmWeight& weight, const float* bias = nullptr);

 private:
  struct Library;
  class Plans;

  explicit CublasLt(std::unique_ptr<Library> library);

  std::unique_ptr<Library> library_;
  std::unique_ptr<Plans> plans_;
  std::shared_ptr<void> workspace_;
};

}  // namespace heartmula::cuda
