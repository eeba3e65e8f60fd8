// Sums over a row by 256 threads, in one order wherever they are needed: inside a product or in a kernel of their own.
#pragma once

#include "cuda/kernels/device.h"

namespace heartmula::cuda {

constexpr int kRowThreads = 256;
constexpr int kRowVectors = 4;  // of four elements, that a thread reads at once: rows of up to 4096

/// Sum over the warp, the same in every lane.
__device__ inline float warp_sum(float value) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

template <typename Function>
__device__ inline float add_four(float sum, const float4& v, Function f) {
  sum += f(v.x);
  sum += f(v.y);
  sum += f(v.z);
  return sum + f(v.w);
}

/// Whether a row can be read four elements at a time.
__device__ inline bool in_fours(const float* x, int columns) {
  return columns % 4 == 0 && reinterpret_cast<uintptr_t>(x) % 16 == 0;
}

/// Thread `thread`'s share of the sum of f(x[i]) over the row: four elements of every 1024, in ascending order.
template <typename Function>
__device__ inline float share_of_row(const float* x, int columns, int thread, Function f) {
  float sum = 0.0f;
  if (in_fours(x, columns)) {
    HEARTMULA_UNROLL
    for (int i = 0; i < kRowVectors; ++i) {
      const int first = 4 * (thread + i * kRowThreads);
      if (first < columns) sum = add_four(sum, *reinterpret_cast<const float4*>(x + first), f);
    }
    for (int first = 4 * (thread + kRowVectors * kRowThreads); first < columns; first += 4 * kRowThreads) {
      sum = add_four(sum, *reinterpret_cast<const float4*>(x + first), f);
    }
    return sum;
  }
  for (int first = 4 * thread; first < columns; first += 4 * kRowThreads) {
    for (int i = 0; i < 4; ++i) {
      if (first + i < columns) sum += f(x[first + i]);
    }
  }
  return sum;
}

struct Square {
  __device__ float operator()(float v) const { return v * v; }
};

/// The warps' sums from left to right.
__device__ inline float sum_of_warps(const float* sums) {
  float total = sums[0];
  for (int warp = 1; warp < kRowThreads / kWarp; ++warp) total += sums[warp];
  return total;
}

__device__ inline float silu_of(float x) {
  return x / (1.0f + expf(-x));
}

}  // namespace heartmula::cuda
