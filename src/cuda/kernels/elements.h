// Matrices of f32 or bf16 as kernels see them.
#pragma once

#include <cuda_runtime.h>

#include "cuda/kernels/device.h"
#include "tensor/tensor.h"

namespace heartmula::cuda {

/// [rows, cols] in device memory, to be read.
struct In {
  const void* data = nullptr;
  int64_t stride = 0;
  bool bf16 = false;

  In() = default;
  // NOLINTNEXTLINE(google-explicit-constructor)
  In(ConstView x) : data(x.data), stride(x.stride), bf16(x.dtype == DType::kBF16) {}
  __device__ float load(int64_t row, int64_t column) const {
    const int64_t at = row * stride + column;
    return bf16 ? from_bf16(static_cast<const uint16_t*>(data)[at]) : static_cast<const float*>(data)[at];
  }
};

/// The same, to be written.
struct Out {
  void* data = nullptr;
  int64_t stride = 0;
  bool bf16 = false;

  Out() = default;
  Out(View x) : data(x.data), stride(x.stride), bf16(x.dtype == DType::kBF16) {}  // NOLINT(google-explicit-constructor)
  __device__ void store(int64_t row, int64_t column, float value) const {
    const int64_t at = row * stride + column;
    if (bf16) {
      static_cast<uint16_t*>(data)[at] = to_bf16(value);
    } else {
      static_cast<float*>(data)[at] = value;
    }
  }
};

}  // namespace heartmula::cuda
