// What follows a product that a library computed.
#pragma once

#include <cuda_runtime.h>

#include "tensor/tensor.h"

namespace heartmula::cuda {

/// out += gain * x, each step rounded as in gemm's epilogue; all f32, [rows, n], gain [n] or none (1). Rows of out and
/// x start at multiples of 16 bytes.
void add_scaled(cudaStream_t stream, View out, ConstView x, const float* gain);

}  // namespace heartmula::cuda
