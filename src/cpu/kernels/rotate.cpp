// y0 = x0 cos - x1 sin, y1 = x1 cos + x0 sin, for each interleaved pair of each head of one row, in place.
#include "cpu/kernels/simd.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {
namespace {

void rotate_pairs(float* x, const float* cos, const float* sin, int64_t pairs) {
  for (int64_t i = 0; i < pairs; ++i) {
    const float x0 = x[2 * i];
    const float x1 = x[2 * i + 1];
    x[2 * i] = x0 * cos[i] - x1 * sin[i];
    x[2 * i + 1] = x1 * cos[i] + x0 * sin[i];
  }
}

/// A piece of a head at a time, as floats.
void rotate_pairs(uint16_t* x, const float* cos, const float* sin, int64_t pairs) {
  constexpr int64_t kPiece = 64;
  HWY_ALIGN float wide[2 * kPiece];
  for (int64_t first = 0; first < pairs; first += kPiece) {
    const int64_t count = least(kPiece, pairs - first);
    uint16_t* piece = x + 2 * first;
    for (int64_t i = 0; i < 2 * count; i += kLanes) {
      store_first(load_first(piece + i, 2 * count - i), wide + i, 2 * count - i);
    }
    rotate_pairs(wide, cos + first, sin + first, count);
    for (int64_t i = 0; i < 2 * count; i += kLanes) {
      store_first(load_first(wide + i, 2 * count - i), piece + i, 2 * count - i);
    }
  }
}

}  // namespace

void rotate(Strip x, const float* cos, const float* sin, int64_t heads, int64_t head_dim) {
  typed(x, [&](auto* row) HWY_ATTR {
    for (int64_t h = 0; h < heads; ++h) rotate_pairs(row + h * head_dim, cos, sin, head_dim / 2);
  });
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();
