// Products of the language model: a few rows past weights that stream by (layout: cuda/packed.h).
//
// Each output is the sum of eight partial sums, one for each slice of the inputs, added from left to right; within a
// slice the sum runs through the inputs in ascending order. So it is whatever the kernel and the number of rows are.
#pragma once

#include <cuda_runtime.h>

#include "tensor/tensor.h"

namespace heartmula::cuda {

struct FewProduct {
  const void* weights = nullptr;
  DType dtype = DType::kBF16;  // of the weights
  int n = 0;                   // outputs, those of gate and up both
  int k = 0;
  int slice = 0;  // inputs of a slice
  int units = 0;

  const void* x = nullptr;  // [rows, k]; f32 with a norm or f32 weights, else bf16
  int64_t x_stride = 0;
  int rows = 0;
  const float* norm_gain = nullptr;  // x is RMSNorm'ed on its way, with this gain
  float norm_eps = 0;

  void* out = nullptr;  // [rows, n], or [rows, n / 2] with a gate
  int64_t out_stride = 0;
  bool out_bf16 = false;
  const float* bias = nullptr;
  const float* scale = nullptr;  // of each output, after the bias
  bool add = false;              // to what is in `out`, f32
  bool gate = false;             // silu(output 2 i) * output (2 i + 1)
};

/// What a product may use of its device.
struct FewResources {
  int multiprocessors = 0;
  int shared_bytes = 0;        // a block
  bool bulk_copies = false;    // compute capability 9.0 and newer
  float* workspace = nullptr;  // many_workspace_floats of the largest product
};

/// bf16, at most 16 rows that fit into shared memory (few_fits); f32, any number of rows.
void few_product(cudaStream_t stream, const FewProduct& product, const FewResources& resources);
bool few_fits(const FewProduct& product, const FewResources& resources);
/// bf16 with any number of rows, at most 64 at a time; norms must have been done before.
void many_product(cudaStream_t stream, const FewProduct& product, const FewResources& resources);
int64_t many_workspace_floats(int64_t n);

}  // namespace heartmula::cuda
