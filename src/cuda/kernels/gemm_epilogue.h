// The epilogue of a product, value by value: the same operations in the same order, whichever kernel and path.
#pragma once

#include "cuda/kernels/device.h"
#include "cuda/kernels/gemm_tile.h"

namespace heartmula::cuda {

/// What an output's column adds to its sum.
struct GemmColumn {
  float bias;
  float gain;
};
__device__ inline GemmColumn gemm_column(const GemmProduct& p, int column) {
  GemmColumn result = {0.0F, 1.0F};
  if (column >= p.n) return result;
  if (p.bias != nullptr) result.bias = p.bias[column];
  if (p.gain != nullptr) result.gain = p.gain[column];
  return result;
}

/// gain * prelu(sum + bias), each step rounded.
__device__ inline float gemm_finish(const GemmProduct& p, float sum, const GemmColumn& column) {
  const float biased = __fadd_rn(sum, column.bias);
  return __fmul_rn(biased < 0.0F ? __fmul_rn(biased, p.prelu) : biased, column.gain);
}
__device__ inline float gemm_finish_gate(float gate, float up) {
  return __fmul_rn(__fdiv_rn(gate, __fadd_rn(1.0F, expf(-gate))), up);
}

__device__ inline float load_target(const GemmTarget& target, int64_t at) {
  return target.bf16 ? from_bf16(static_cast<const uint16_t*>(target.data)[at])
                     : static_cast<const float*>(target.data)[at];
}
__device__ inline void store_target(const GemmTarget& target, int64_t at, float value) {
  if (target.bf16) {
    static_cast<uint16_t*>(target.data)[at] = to_bf16(value);
  } else {
    static_cast<float*>(target.data)[at] = value;
  }
}

/// `kCount` outputs (4, or 2 with a gate) of a row, finished but for `add`, from column `column` on.
template <int kCount>
__device__ inline void store_outputs(const GemmProduct& p, int64_t row, int column, float (&values)[4]) {
  const auto store = [&](const GemmTarget& target) {
    const int64_t at = row * target.stride + column;
    const uint32_t low = to_bf16_pair(values[0], values[1]);
    if (target.bf16) {
      auto* to = static_cast<uint16_t*>(target.data) + at;
      if constexpr (kCount == 4) {
        *reinterpret_cast<uint2*>(to) = {low, to_bf16_pair(values[2], values[3])};
      } else {
        *reinterpret_cast<uint32_t*>(to) = low;
      }
    } else {
      auto* to = static_cast<float*>(target.data) + at;
      if constexpr (kCount == 4) {
        *reinterpret_cast<float4*>(to) = {values[0], values[1], values[2], values[3]};
      } else {
        *reinterpret_cast<float2*>(to) = {values[0], values[1]};
      }
    }
  };
  const int columns = p.gate ? p.n / 2 : p.n;
  if (p.aligned_output && column + kCount <= columns) {
    if (kCount == 4 && p.add) {
      const float4 old =
          *reinterpret_cast<const float4*>(static_cast<const float*>(p.out.data) + row * p.out.stride + column);
      values[0] = __fadd_rn(old.x, values[0]);
      values[1] = __fadd_rn(old.y, values[1]);
      values[2] = __fadd_rn(old.z, values[2]);
      values[3] = __fadd_rn(old.w, values[3]);
    }
    store(p.out);
    if (p.copy.data != nullptr) store(p.copy);
    return;
  }
  HEARTMULA_UNROLL
  for (int i = 0; i < kCount; ++i) {
    if (column + i >= columns) return;
    const int64_t at = row * p.out.stride + column + i;
    if (p.add) values[i] = __fadd_rn(load_target(p.out, at), values[i]);
    store_target(p.out, at, values[i]);
    if (p.copy.data != nullptr) store_target(p.copy, row * p.copy.stride + column + i, values[i]);
  }
}

/// The sums of a block's tile in shared memory, so that neighbouring threads write neighbouring outputs.
template <int kRows, int kColumns, int kThreads>
struct GemmSums {
  static constexpr int kPitch = kColumns + 8;  // a warp's fragments meet every bank once
  static constexpr int kBytes = kRows * kPitch * 4;

  /// By all threads of the block, after a barrier.
  __device__ static void finish(const GemmProduct& p, const float* sums, const GemmTileAt& tile) {
    constexpr int kPerRow = kColumns / 4;
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kPerRow; i += kThreads) {
      const int64_t row = tile.row + i / kPerRow;
      const int column = tile.column + i % kPerRow * 4;
      if (row >= p.rows || column >= p.n) continue;
      const float4 four = *reinterpret_cast<const float4*>(sums + i / kPerRow * kPitch + i % kPerRow * 4);
      float values[4] = {four.x, four.y, four.z, four.w};
      if (p.gate) {
        values[0] = gemm_finish_gate(values[0], values[1]);
        values[1] = gemm_finish_gate(values[2], values[3]);
        store_outputs<2>(p, row, column / 2, values);
      } else {
        HEARTMULA_UNROLL
        for (int j = 0; j < 4; ++j) values[j] = gemm_finish(p, values[j], gemm_column(p, column + j));
        store_outputs<4>(p, row, column, values);
      }
    }
  }
};

}  // namespace heartmula::cuda
