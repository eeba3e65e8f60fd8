// The register tile of tile.h for NEON.
//
// A vector holds several k of one row's activations, and products take one of them by lane: broadcasting each k of each
// row would cost a load and a register more. Weights are loaded right before their products. g++ must not reorder that
// (-fno-schedule-insns): it loads them all early and spills sums.
#pragma once

#include <arm_neon.h>

#include "cpu/kernels/simd.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {

/// How many rows a tile has.
struct TileOfRows {
  static constexpr int kRows = kTileRows;
  static constexpr int kPairRows = 2;  // beside two panels
  static constexpr int kRowStep = 1;   // a tile begins at a multiple of it
};

/// acc[r] += w * x[r][kLane]
template <int kLane, int R, int V>
HWY_INLINE void add_products(F (&acc)[R][V], int v, float32x4_t w, const float32x4_t (&x)[R]) {
  HWY_UNROLL(8)
  for (int r = 0; r < R; ++r) acc[r][v].raw = vfmaq_laneq_f32(acc[r][v].raw, w, x[r], kLane);
}

/// Activations of several steps in one vector: f32, or the bits of 8 bf16.
HWY_INLINE float32x4_t load_steps(const float* a) {
  return vld1q_f32(a);
}
HWY_INLINE uint16x8_t load_steps(const uint16_t* a) {
  return vld1q_u16(a);
}

/// One k a step, f32.
struct WeightsF32 : TileOfRows {
  using Activation = float;
  using Stored = float;
  static constexpr int kActivations = 1;  // a step

  static HWY_INLINE float32x4_t load_step(const float* a) { return vdupq_n_f32(*a); }

  template <int kStep, int R, int V>
  static HWY_INLINE void step(F (&acc)[R][V], const float32x4_t (&x)[R], const float* const* w) {
    HWY_UNROLL(8)
    for (int v = 0; v < V; ++v) {
      add_products<kStep>(acc, v, vld1q_f32(w[v / kVectors] + v % kVectors * kLanes), x);
    }
  }
};

#if HEARTMULA_BF16_DOT

/// The pair k, k + 1 of bf16 a step, by the dot product instruction.
struct WeightsPairs : TileOfRows {
  using Activation = uint16_t;
  using Stored = uint32_t;
  static constexpr int kActivations = 2;

  static HWY_INLINE uint16x8_t load_step(const uint16_t* a) {
    uint32_t pair;  // only 2-byte aligned
    __builtin_memcpy(&pair, a, sizeof(pair));
    return vreinterpretq_u16_u32(vdupq_n_u32(pair));
  }

  template <int kStep, int R, int V>
  static HWY_INLINE void step(F (&acc)[R][V], const uint16x8_t (&x)[R], const uint32_t* const* w) {
    HWY_UNROLL(8)
    for (int v = 0; v < V; ++v) {
      const bfloat16x8_t pairs = vreinterpretq_bf16_u32(vld1q_u32(w[v / kVectors] + v % kVectors * kLanes));
      HWY_UNROLL(8)
      for (int r = 0; r < R; ++r) {
        acc[r][v].raw = vbfdotq_laneq_f32(acc[r][v].raw, pairs, vreinterpretq_bf16_u16(x[r]), kStep);
      }
    }
  }
};

/// Four k of bf16 a step, by the matrix instruction: 2 rows x 4 k times 4 k x 2 outputs. Activations are staged in
/// pairs of rows, four k of the one and four of the other in turn.
struct WeightsQuads : TileOfRows {
  using Activation = uint16_t;
  using Stored = uint64_t;
  static constexpr int kActivations = 4;
  static constexpr int kRows = 6;
  static constexpr int kRowStep = 2;

  /// Elements [first, first + count) of a staged row, [row pairs][k / 4][2][4].
  static HWY_INLINE void stage_run(uint16_t* rows, int64_t pitch, int64_t row, int64_t first, const uint16_t* from,
                                   int64_t count) {
    uint16_t* to = rows + row / 2 * 2 * pitch + row % 2 * 4;
    int64_t i = 0;
    for (; i < count && (first + i) % 4 != 0; ++i) to[(first + i) / 4 * 8 + (first + i) % 4] = from[i];
    for (; i + 4 <= count; i += 4) __builtin_memcpy(to + 2 * (first + i), from + i, 4 * sizeof(uint16_t));
    for (; i < count; ++i) to[(first + i) / 4 * 8 + (first + i) % 4] = from[i];
  }
};

using WeightsPacked = WeightsQuads;  // bf16 as a packed matrix holds it

#else

/// The pair k, k + 1 of bf16 a step, widened exactly; activations are bf16 widened before.
struct WeightsPairs : TileOfRows {
  using Activation = float;
  using Stored = uint32_t;
  static constexpr int kActivations = 2;

  static HWY_INLINE float32x4_t load_step(const float* a) { return vcombine_f32(vld1_f32(a), vdup_n_f32(0.0F)); }

  template <int kStep, int R, int V>
  static HWY_INLINE void step(F (&acc)[R][V], const float32x4_t (&x)[R], const uint32_t* const* w) {
    const uint16x8_t nothing = vdupq_n_u16(0);
    HWY_UNROLL(8)
    for (int v = 0; v < V; ++v) {
      const uint16x8_t pairs = vreinterpretq_u16_u32(vld1q_u32(w[v / kVectors] + v % kVectors * kLanes));
      add_products<2 * kStep>(acc, v, vreinterpretq_f32_u16(vtrn1q_u16(nothing, pairs)), x);
      add_products<2 * kStep + 1>(acc, v, vreinterpretq_f32_u16(vtrn2q_u16(nothing, pairs)), x);
    }
  }
};

using WeightsPacked = WeightsPairs;  // bf16 as a packed matrix holds it

#endif

/// Steps kStep, kStep + 1, ... of the kSteps whose activations x holds.
template <class W, int kStep, int kSteps, int R, int V, class X>
HWY_INLINE void add_steps(F (&acc)[R][V], const X (&x)[R], const typename W::Stored* (&panels)[V / kVectors],
                          int64_t w_step) {
  W::template step<kStep>(acc, x, panels);
  HWY_UNROLL(2)
  for (int i = 0; i < V / kVectors; ++i) panels[i] += w_step;
  if constexpr (kStep + 1 < kSteps) add_steps<W, kStep + 1, kSteps>(acc, x, panels, w_step);
}

/// Rows share a vector of activations only with themselves.
template <class W, int R, int V>
HWY_INLINE void accumulate_rows(F (&acc)[R][V], const typename W::Activation* a, int64_t a_stride,
                                const typename W::Stored* w, int64_t w_step, int64_t panel_stride, int64_t steps) {
  constexpr int kSteps = 16 / static_cast<int>(sizeof(typename W::Activation)) / W::kActivations;  // of one vector
  const typename W::Stored* panels[V / kVectors];
  for (int i = 0; i < V / kVectors; ++i) panels[i] = w + i * panel_stride;
  decltype(load_steps(a)) x[R];
  int64_t k = 0;
  for (; k + kSteps <= steps; k += kSteps) {
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) x[r] = load_steps(a + r * a_stride + k * W::kActivations);
    add_steps<W, 0, kSteps>(acc, x, panels, w_step);
  }
  for (; k < steps; ++k) {
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) x[r] = W::load_step(a + r * a_stride + k * W::kActivations);
    add_steps<W, 0, 1>(acc, x, panels, w_step);
  }
}

#if HEARTMULA_BF16_DOT

HWY_INLINE F low_halves(F a, F b) {
  return F(vreinterpretq_f32_f64(vzip1q_f64(vreinterpretq_f64_f32(a.raw), vreinterpretq_f64_f32(b.raw))));
}
HWY_INLINE F high_halves(F a, F b) {
  return F(vreinterpretq_f32_f64(vzip2q_f64(vreinterpretq_f64_f32(a.raw), vreinterpretq_f64_f32(b.raw))));
}

/// Pairs of rows: squares[q][n] holds outputs 2n and 2n + 1 of row 2q, then of row 2q + 1.
template <int R, int V>
HWY_INLINE void accumulate_pairs(F (&acc)[R][V], const uint16_t* a, int64_t a_stride, const uint64_t* w, int64_t w_step,
                                 int64_t panel_stride, int64_t steps) {
  constexpr int kPairs = (R + 1) / 2;
  constexpr int kSquares = 2 * kVectors;  // of one panel
  F squares[kPairs][2 * V];
  HWY_UNROLL(4)
  for (int q = 0; q < kPairs; ++q) {
    HWY_UNROLL(8)
    for (int v = 0; v < V; ++v) {
      const F odd = 2 * q + 1 < R ? acc[least(2 * q + 1, R - 1)][v] : zero();
      squares[q][2 * v] = low_halves(acc[2 * q][v], odd);
      squares[q][2 * v + 1] = high_halves(acc[2 * q][v], odd);
    }
  }
  const uint64_t* panels[V / kVectors];
  for (int i = 0; i < V / kVectors; ++i) panels[i] = w + i * panel_stride;
  for (int64_t k = 0; k < steps; ++k) {
    bfloat16x8_t x[kPairs];
    HWY_UNROLL(4)
    for (int q = 0; q < kPairs; ++q) {
      const uint16_t* both = a + 2 * q * a_stride + 8 * k;
      const bool alone = 2 * q + 1 == R;
      x[q] = vreinterpretq_bf16_u16(alone ? vcombine_u16(vld1_u16(both), vdup_n_u16(0)) : vld1q_u16(both));
    }
    HWY_UNROLL(16)
    for (int n = 0; n < 2 * V; ++n) {
      const bfloat16x8_t quads = vreinterpretq_bf16_u64(vld1q_u64(panels[n / kSquares] + n % kSquares * 2));
      HWY_UNROLL(4)
      for (int q = 0; q < kPairs; ++q) squares[q][n].raw = vbfmmlaq_f32(squares[q][n].raw, x[q], quads);
    }
    HWY_UNROLL(2)
    for (int i = 0; i < V / kVectors; ++i) panels[i] += w_step;
  }
  HWY_UNROLL(8)
  for (int r = 0; r < R; ++r) {
    HWY_UNROLL(8)
    for (int v = 0; v < V; ++v) {
      const F* from = squares[r / 2] + 2 * v;
      acc[r][v] = r % 2 == 0 ? low_halves(from[0], from[1]) : high_halves(from[0], from[1]);
    }
  }
}

#endif

/// As in tile.h.
template <class W, int R, int V>
HWY_INLINE void accumulate(F (&acc)[R][V], const typename W::Activation* a, int64_t a_stride,
                           const typename W::Stored* w, int64_t w_step, int64_t panel_stride, int64_t steps) {
  if constexpr (W::kRowStep == 2) {
    accumulate_pairs(acc, a, a_stride, w, w_step, panel_stride, steps);
  } else {
    accumulate_rows<W>(acc, a, a_stride, w, w_step, panel_stride, steps);
  }
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();
