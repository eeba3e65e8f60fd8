// Norms of rows (ops/ops.h), with the sums in the order of row_sums.h.
#pragma once

#include <cuda_runtime.h>

#include "tensor/tensor.h"

namespace heartmula::cuda {

/// x f32; scale and shift [1, D], or empty.
void rms_norm(cudaStream_t stream, View out, ConstView x, ConstView gain, ConstView scale, ConstView shift, float eps);
void layer_norm(cudaStream_t stream, View out, ConstView x, ConstView scale, ConstView shift, float eps);

}  // namespace heartmula::cuda
