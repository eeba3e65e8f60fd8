// Operations element by element (ops/ops.h says what each computes), on f32 and bf16 alike.
#pragma once

#include <cuda_runtime.h>

#include "tensor/tensor.h"

namespace heartmula::cuda {

void clear(cudaStream_t stream, View out);
void copy(cudaStream_t stream, View out, ConstView x);
void combine(cudaStream_t stream, View out, float a, ConstView x, float b, ConstView y);
void guide(cudaStream_t stream, View out, ConstView x, ConstView y, float guidance);
void silu(cudaStream_t stream, View out, ConstView x);
void round_levels(cudaStream_t stream, View out, ConstView x, float levels);
void diagonal_sum(cudaStream_t stream, View out, ConstView x, ConstView bias);

}  // namespace heartmula::cuda
