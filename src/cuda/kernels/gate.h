// silu(gate) * up of sums that a library left in memory.
#pragma once

#include <cuda_runtime.h>

#include "tensor/tensor.h"

namespace heartmula::cuda {

/// out [rows, n] = silu(x[2 i]) * x[2 i + 1], of x [rows, 2 n], f32, without gaps beyond its stride, which is even.
void gate(cudaStream_t stream, View out, ConstView x);

}  // namespace heartmula::cuda
