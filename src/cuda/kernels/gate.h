// silu(gate) * up of sums that a library left in memory.
#pragma once

#include <cuda_runtime.h>

#include "tensor/tensor.h"

namespace heartmula::cuda {

/// out [rows, n] = silu(x[2 i]) * x[2 i + 1], of x [rows, 2 n] in the same dtype, f32 or bf16. Rows of both begin at
/// multiples of 16 bytes.
void gate(cudaStream_t stream, View out, ConstView x);

}  // namespace heartmula::cuda
