// The epilogue of a product, value by value: the same operations in the same order, whichever kernel and path.
#pragma once

#include "cuda/kernels/device.h"
#include "cuda/kernels/gemm_tile.h"

namespace heartmula::cuda {

/// What four columns do to their sums.
struct GemmColumns {
  float bias[4] = {};
  float gain[4] = {1.0F, 1.0F, 1.0F, 1.0F};

  GemmColumns() = default;
  __device__ GemmColumns(const GemmProduct& p, int column) {
    HEARTMULA_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (column + i >= p.n) continue;
      if (p.bias != nullptr) bias[i] = p.bias[column + i];
      if (p.gain != nullptr) gain[i] = p.gain[column + i];
    }
  }
};

/// gain * prelu(sum + bias), each step rounded.
__device__ inline float gemm_finish(const GemmProduct& p, float sum, float bias, float gain) {
  const float biased = __fadd_rn(sum, bias);
  return __fmul_rn(biased < 0.0F ? __fmul_rn(biased, p.prelu) : biased, gain);
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

/// Whether outputs are written, and what they are added to is read, four at a time from column `column` on.
__device__ inline bool in_fours(const GemmProduct& p, int column, int count) {
  return p.aligned_output && column + count <= (p.gate ? p.n / 2 : p.n);
}

/// `kCount` outputs (4, or 2 with a gate) of a row, finished but for `add`, from column `column` on. `old` is what four
/// of them are added to.
template <int kCount>
__device__ inline void store_outputs(const GemmProduct& p, int64_t row, int column, float (&values)[4],
                                     const float4& old) {
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
  if (in_fours(p, column, kCount)) {
    if (kCount == 4 && p.add) {
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
    if (column + i >= (p.gate ? p.n / 2 : p.n)) return;
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

  /// A warp's fragments of 16 rows from row `row` of the tile and column `column` on.
  template <int kFragments>
  __device__ static void put(float* sums, int row, int column, const float (&fragments)[kFragments][4]) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    float* to = sums + (row + lane / 4) * kPitch + column + lane % 4 * 2;
    HEARTMULA_UNROLL
    for (int j = 0; j < kFragments; ++j) {
      *reinterpret_cast<float2*>(to + j * 8) = {fragments[j][0], fragments[j][1]};
      *reinterpret_cast<float2*>(to + j * 8 + 8 * kPitch) = {fragments[j][2], fragments[j][3]};
    }
  }

  /// What the tile is added to is on its way to the second cache while the sums are made.
  __device__ static void prefetch_old(const GemmProduct& p, const GemmTileAt& tile) {
    constexpr int kLine = 32;  // values
    if (!p.add || p.out.bf16) return;
    for (int i = static_cast<int>(threadIdx.x); i < kRows * (kColumns / kLine); i += kThreads) {
      const int64_t row = tile.row + i / (kColumns / kLine);
      const int column = tile.column + i % (kColumns / kLine) * kLine;
      if (row < p.rows && column < p.n) prefetch(static_cast<const float*>(p.out.data) + row * p.out.stride + column);
    }
  }

  /// By all threads of the block, after a barrier.
  __device__ static void finish(const GemmProduct& p, const float* sums, const GemmTileAt& tile) {
    static_assert(kRows * kPerRow % (kTogether * kThreads) == 0);
    constexpr bool kSameColumns = kThreads % kPerRow == 0;
    const int thread = static_cast<int>(threadIdx.x);
    GemmColumns columns;
    if (kSameColumns) columns = GemmColumns(p, tile.column + thread % kPerRow * 4);
    for (int first = thread; first < kRows * kPerRow; first += kTogether * kThreads) {
      float4 old[kTogether] = {};
      if (p.add && p.aligned_output) {
        HEARTMULA_UNROLL
        for (int i = 0; i < kTogether; ++i) {
          const int64_t row = tile.row + (first + i * kThreads) / kPerRow;
          const int column = tile.column + (first + i * kThreads) % kPerRow * 4;
          if (row >= p.rows || !in_fours(p, column, 4)) continue;
          old[i] =
              *reinterpret_cast<const float4*>(static_cast<const float*>(p.out.data) + row * p.out.stride + column);
        }
      }
      HEARTMULA_UNROLL
      for (int i = 0; i < kTogether; ++i) {
        const int place = first + i * kThreads;
        const int64_t row = tile.row + place / kPerRow;
        const int column = tile.column + place % kPerRow * 4;
        if (row >= p.rows || column >= p.n) continue;
        if (!kSameColumns) columns = GemmColumns(p, column);
        finish_four(p, row, column, sums + place / kPerRow * kPitch + place % kPerRow * 4, columns, old[i]);
      }
    }
  }

 private:
  static constexpr int kPerRow = kColumns / 4;
  static constexpr int kTogether = 4;  // whose old values are read at once

  __device__ static void finish_four(const GemmProduct& p, int64_t row, int column, const float* sums,
                                     const GemmColumns& columns, const float4& old) {
    const float4 four = *reinterpret_cast<const float4*>(sums);
    float values[4] = {four.x, four.y, four.z, four.w};
    if (p.gate) {
      values[0] = gemm_finish_gate(values[0], values[1]);
      values[1] = gemm_finish_gate(values[2], values[3]);
      store_outputs<2>(p, row, column / 2, values, old);
    } else {
      HEARTMULA_UNROLL
      for (int j = 0; j < 4; ++j) values[j] = gemm_finish(p, values[j], columns.bias[j], columns.gain[j]);
      store_outputs<4>(p, row, column, values, old);
    }
  }
};

}  // namespace heartmula::cuda
