// Products of many rows: out = epilogue(x W^T), where x may be the overlapping rows of a convolution.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "tensor/tensor.h"

namespace heartmula::cuda {

/// Row t of the product's left side is x[t], x[t + dilation], ..., `taps` rows of x, one after the other: its k is
/// taps * x.cols. x has the weights' dtype and out.rows + (taps - 1) * dilation rows.
struct GemmInput {
  ConstView x;
  int64_t taps = 1;
  int64_t dilation = 1;
};

/// W [n, k] by rows, `stride` elements apart: k rounded up to 16 bytes and filled with zeros; 16-byte aligned. With a
/// gate, row 2 i is gate i, row 2 i + 1 is up i, and n counts both.
struct GemmWeight {
  const void* data = nullptr;
  DType dtype = DType::kF32;  // or kBF16
  int64_t n = 0;
  int64_t k = 0;
  int64_t stride = 0;
};

/// out = v, or out += v, then copy = out; v = gain * prelu(sum + bias), or silu(sum of gate) * (sum of up).
struct GemmEpilogue {
  const float* bias = nullptr;  // [n], or none
  const float* gain = nullptr;  // [n], or none
  bool has_prelu = false;
  float prelu = 0;  // the slope for negative values
  bool add = false;
  bool gate = false;  // bias, gain, prelu and add are not used then
  View copy = {};     // [rows, n], f32 or bf16, or empty
};

/// What the choice of tiles looks at; they never change a result.
struct GpuLimits {
  int multiprocessors = 1;
  int shared_bytes = 0;  // that a block may ask for
};
GpuLimits gpu_limits();  // of the current device

/// out [rows, n], or [rows, n / 2] with a gate; f32 or bf16, as is copy. Sums are f32, one chain in ascending k: an
/// output's bits depend on its row of the left side and its row of W alone.
void gemm(cudaStream_t stream, View out, const GemmInput& input, const GemmWeight& weight, const GemmEpilogue& epilogue,
          const GpuLimits& gpu = gpu_limits());

/// Two products in a row, each with bias and prelu: out += second(between), copy = out, where between = first(input),
/// rounded to the weights' dtype. `between` [out.rows, first.n] is scratch of the weights' dtype.
struct GemmResidualUnit {
  GemmInput input;
  GemmWeight first;
  const float* bias1 = nullptr;
  float slope1 = 0;
  GemmWeight second;
  const float* bias2 = nullptr;
  float slope2 = 0;
};
void residual_unit_gemm(cudaStream_t stream, View out, View copy, const GemmResidualUnit& unit, View between,
                        const GpuLimits& gpu = gpu_limits());

}  // namespace heartmula::cuda
