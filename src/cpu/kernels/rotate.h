// y0 = x0 cos - x1 sin, y1 = x1 cos + x0 sin, for each interleaved pair of one head.
#pragma once

#include "cpu/kernels/simd.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {

/// Rotated heads go through the stack in pieces of this many floats.
constexpr int64_t kRotatePiece = 256;

/// x and out [head_dim], which may be the same; cos and sin [head_dim / 2]. Each product and sum is rounded by itself.
HWY_INLINE void rotate(float* out, const float* x, const float* cos, const float* sin, int64_t head_dim) {
  const int64_t pairs = head_dim / 2;
  int64_t i = 0;
  for (; i + kLanes <= pairs; i += kLanes) {
    F x0;
    F x1;
    hn::LoadInterleaved2(DF(), x + 2 * i, x0, x1);
    const F c = load(cos + i);
    const F s = load(sin + i);
    const F y0 = hn::Sub(hn::Mul(x0, c), hn::Mul(x1, s));
    const F y1 = hn::Add(hn::Mul(x1, c), hn::Mul(x0, s));
    hn::StoreInterleaved2(y0, y1, DF(), out + 2 * i);
  }
  for (; i < pairs; ++i) {
    const float x0 = x[2 * i];
    const float x1 = x[2 * i + 1];
    out[2 * i] = x0 * cos[i] - x1 * sin[i];
    out[2 * i + 1] = x1 * cos[i] + x0 * sin[i];
  }
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();
