// Attention without a mask.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "tensor/tensor.h"

namespace heartmula::cuda {

constexpr int64_t kMostAttendAllHeadDim = 128;

/// Device memory that attend_all needs, for at most `rows` keys of a window and as many queries.
int64_t attend_all_scratch_bytes(DType dtype, int64_t rows, int64_t heads, int64_t head_dim, int64_t windows);

/// Ops::attend_all: row r of a window stands at position r of cos and sin [positions, hd / 2] and attends to all keys
/// of its window; queries, keys and values f32, rounded to out's dtype, f32 or bf16; all [windows * rows, heads * hd],
/// hd even and at most kMostAttendAllHeadDim. There may be fewer queries than keys. `scratch` is 16-byte aligned.
void attend_all(cudaStream_t stream, View out, ConstView queries, ConstView keys, ConstView values, ConstView cos,
                ConstView sin, int64_t heads, int64_t windows, void* scratch);

}  // namespace heartmula::cuda
