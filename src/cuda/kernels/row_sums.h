// Sums over a row by 256 threads, in one order wherever they are needed: inside a product or in a kernel of their own.
#pragma once

#include "cuda/kernels/device.h"

namespace heartmula::cuda {

constexpr int kRowThreads = 256;

/// Sum over the warp, the same in every lane.
__device__ inline float warp_sum(float value) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

/// Thread `thread`'s share of the sum of f(x[i]) over the row: four elements of every 1024.
template <typename Function>
__device__ inline float share_of_row(const float* x, int columns, int thread, Function f) {
  float sum = 0.0f;
  for (int first = 4 * thread; first < columns; first += 4 * kRowThreads) {
    for (int i = 0; i < 4; ++i) {
      if (first + i < columns) sum += f(x[first + i]);
    }
  }
  return sum;
}

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
