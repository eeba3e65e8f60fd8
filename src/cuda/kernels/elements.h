// Matrices of f32 or bf16 as kernels see them.
#pragma once

#include <cuda_runtime.h>

#include "cuda/kernels/device.h"
#include "tensor/tensor.h"

namespace heartmula::cuda {

/// `kCount` floats, at a multiple of 16 bytes where they are four or more.
template <int kCount>
__device__ inline void load_floats(float (&to)[kCount], const float* from) {
  if constexpr (kCount % 4 == 0) {
    HEARTMULA_UNROLL
    for (int i = 0; i < kCount; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(from + i);
      to[i] = four.x;
      to[i + 1] = four.y;
      to[i + 2] = four.z;
      to[i + 3] = four.w;
    }
  } else {
    HEARTMULA_UNROLL
    for (int i = 0; i < kCount; ++i) to[i] = from[i];
  }
}

/// The eight bf16 of 16 bytes.
__device__ inline void unpack_bf16(float (&to)[8], const uint4& words) {
  to[0] = low_bf16(words.x), to[1] = high_bf16(words.x), to[2] = low_bf16(words.y), to[3] = high_bf16(words.y);
  to[4] = low_bf16(words.z), to[5] = high_bf16(words.z), to[6] = low_bf16(words.w), to[7] = high_bf16(words.w);
}

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
  /// Four from column `column` on, which stand at a multiple of 8 (bf16) or 16 bytes.
  __device__ void store(int64_t row, int64_t column, const float (&values)[4]) const {
    const int64_t at = row * stride + column;
    if (bf16) {
      *reinterpret_cast<uint2*>(static_cast<uint16_t*>(data) + at) = {to_bf16_pair(values[0], values[1]),
                                                                      to_bf16_pair(values[2], values[3])};
    } else {
      *reinterpret_cast<float4*>(static_cast<float*>(data) + at) = {values[0], values[1], values[2], values[3]};
    }
  }
  __device__ void store(int64_t row, int64_t column, const float (&value)[1]) const { store(row, column, value[0]); }
};

}  // namespace heartmula::cuda
