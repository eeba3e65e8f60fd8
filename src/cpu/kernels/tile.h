// acc[r][v] += sum over k of a[r][k] * w[k][v]: the register tile under products and attention.
//
// Outputs lie in lanes and each is one chain of fused multiply-adds over ascending k, whatever the number of rows, so
// that a row's bits do not depend on its company. How weights lie in memory is a policy.
#pragma once

#include "cpu/kernels/simd.h"
#if HWY_ARCH_ARM
#include "cpu/kernels/tile_neon.h"
#endif

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {

#if !HWY_ARCH_ARM

/// How many rows a tile has.
struct TileOfRows {
  static constexpr int kRows = kTileRows;
  static constexpr int kPairRows = kLanes == 16 ? 0 : kTileRows / 2;  // beside two panels
  static constexpr int kRowStep = 1;                                  // a tile begins at a multiple of it
};

/// acc[r][v] += x[r] * w[v]: either rows or vectors wait in registers, whichever are fewer, while the others pass by.
template <int R, int V, class LoadX, class LoadW>
HWY_INLINE void add_products(F (&acc)[R][V], const LoadX& load_x, const LoadW& load_w) {
  if constexpr (R < V) {
    F x[R];
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) x[r] = load_x(r);
    HWY_UNROLL(8)
    for (int v = 0; v < V; ++v) {
      const F w = load_w(v);
      HWY_UNROLL(16)
      for (int r = 0; r < R; ++r) acc[r][v] = hn::MulAdd(x[r], w, acc[r][v]);
    }
  } else {
    F w[V];
    HWY_UNROLL(8)
    for (int v = 0; v < V; ++v) w[v] = load_w(v);
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) {
      const F x = load_x(r);
      HWY_UNROLL(8)
      for (int v = 0; v < V; ++v) acc[r][v] = hn::MulAdd(x, w[v], acc[r][v]);
    }
  }
}

/// One k a step, f32.
struct WeightsF32 : TileOfRows {
  using Activation = float;
  using Stored = float;
  static constexpr int kActivations = 1;  // a step

  template <int R, int V>
  static HWY_INLINE void step(F (&acc)[R][V], const float* const* a, int64_t a_stride, const float* const* w) {
    add_products(
        acc, [&](int r) HWY_ATTR { return set(a[r / 4][r % 4 * a_stride]); },
        [&](int v) HWY_ATTR { return load(w[v / kVectors] + v % kVectors * kLanes); });
  }
};

#if HEARTMULA_BF16_DOT

/// acc + lo(a) * lo(b) + hi(a) * hi(b), the pair of bf16 in each 32-bit lane.
HWY_INLINE F dot_pairs(F acc, U a, U b) {
  const auto bf16 = [](U v) HWY_ATTR { return reinterpret_cast<__m512bh>(v.raw); };
  return F{_mm512_dpbf16_ps(acc.raw, bf16(a), bf16(b))};
}

/// The pair k, k + 1 of bf16 a step, by the dot product instruction.
struct WeightsPairs : TileOfRows {
  using Activation = uint16_t;
  using Stored = uint32_t;
  static constexpr int kActivations = 2;

  template <int R, int V>
  static HWY_INLINE void step(F (&acc)[R][V], const uint16_t* const* a, int64_t a_stride, const uint32_t* const* w) {
    U weights[V];
    HWY_UNROLL(8)
    for (int v = 0; v < V; ++v) weights[v] = load(w[v / kVectors] + v % kVectors * kLanes);
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) {
      uint32_t pair;  // only 2-byte aligned
      __builtin_memcpy(&pair, a[r / 4] + r % 4 * a_stride, sizeof(pair));
      const U x = hn::Set(DU(), pair);
      HWY_UNROLL(8)
      for (int v = 0; v < V; ++v) acc[r][v] = dot_pairs(acc[r][v], x, weights[v]);
    }
  }
};

#else

/// The pair k, k + 1 of bf16 a step, widened exactly by shift and mask; activations are bf16 widened before.
struct WeightsPairs : TileOfRows {
  using Activation = float;
  using Stored = uint32_t;
  static constexpr int kActivations = 2;

  template <int R, int V>
  static HWY_INLINE void step(F (&acc)[R][V], const float* const* a, int64_t a_stride, const uint32_t* const* w) {
    const auto words = [&](int v) HWY_ATTR { return load(w[v / kVectors] + v % kVectors * kLanes); };
    add_products(
        acc, [&](int r) HWY_ATTR { return set(a[r / 4][r % 4 * a_stride]); },
        [&](int v) HWY_ATTR { return low_f32(words(v)); });
    add_products(
        acc, [&](int r) HWY_ATTR { return set(a[r / 4][r % 4 * a_stride + 1]); },
        [&](int v) HWY_ATTR { return high_f32(words(v)); });
  }
};

#endif

using WeightsPacked = WeightsPairs;  // bf16 as a packed matrix holds it

#endif

/// Where the loop over k fetches memory long before it is used: `kLines` cache lines at `at` each step, which then
/// moves on by `step` bytes. The same beyond the first panel's for each further one.
template <int kLinesAStep, int kCacheLevel = 1>
struct Ahead {
  static constexpr int kLines = kLinesAStep;
  static constexpr int kLocality = 4 - kCacheLevel;
  const char* at = nullptr;
  int64_t step = 0;
};
using NothingAhead = Ahead<0>;

#if HWY_ARCH_ARM

/// Fetches nothing, for want of a machine to measure it on.
template <class W, int R, int V, class AheadOfUse>
HWY_INLINE void accumulate(F (&acc)[R][V], const typename W::Activation* a, int64_t a_stride,
                           const typename W::Stored* w, int64_t w_step, int64_t panel_stride, int64_t steps,
                           AheadOfUse&) {
  accumulate<W>(acc, a, a_stride, w, w_step, panel_stride, steps);
}

#else

/// `steps` steps; weights of a step lie w_step elements after those of the step before, those of the next panel
/// panel_stride elements further.
template <class W, int R, int V, class AheadOfUse>
HWY_INLINE void accumulate(F (&acc)[R][V], const typename W::Activation* a, int64_t a_stride,
                           const typename W::Stored* w, int64_t w_step, int64_t panel_stride, int64_t steps,
                           AheadOfUse& ahead) {
  constexpr int kLines = AheadOfUse::kLines;
  constexpr int kBases = (R + 3) / 4;  // a base for 4 rows: offsets of 0 to 3 strides need no registers of their own
  constexpr int kPanels = V / kVectors;
  const typename W::Activation* rows[kBases];
  for (int i = 0; i < kBases; ++i) rows[i] = a + 4 * i * a_stride;
  const typename W::Stored* panels[kPanels];
  for (int i = 0; i < kPanels; ++i) panels[i] = w + i * panel_stride;
  for (int64_t k = 0; k < steps; ++k) {
    if constexpr (kLines > 0) {
      HWY_UNROLL(4)
      for (int i = 0; i < kPanels * kLines; ++i) {
        const int64_t panel = i / kLines * panel_stride * int64_t{sizeof(typename W::Stored)};
        __builtin_prefetch(ahead.at + panel + i % kLines * kCacheLine, 0, AheadOfUse::kLocality);
      }
      ahead.at += ahead.step;
    }
    W::template step<R, V>(acc, rows, a_stride, panels);
    HWY_UNROLL(4)
    for (int i = 0; i < kBases; ++i) rows[i] += W::kActivations;
    HWY_UNROLL(4)
    for (int i = 0; i < kPanels; ++i) panels[i] += w_step;
  }
}
template <class W, int R, int V>
HWY_INLINE void accumulate(F (&acc)[R][V], const typename W::Activation* a, int64_t a_stride,
                           const typename W::Stored* w, int64_t w_step, int64_t panel_stride, int64_t steps) {
  NothingAhead nothing;
  accumulate<W>(acc, a, a_stride, w, w_step, panel_stride, steps, nothing);
}

#endif

/// Calls body.template operator()<rows>() for a number of rows in [1, R] known only at run time.
template <int R, class Body>
HWY_INLINE void with_rows(int64_t rows, const Body& body) {
  if constexpr (R > 1) {
    if (rows < R) return with_rows<R - 1>(rows, body);
  }
  body.template operator()<R>();
}

/// Cuts [0, rows) into tiles of at most W::kRows rows, as equal as can be: body(first, count).
template <class W, class Body>
HWY_INLINE void for_each_tile(int64_t rows, const Body& body) {
  const int64_t steps = (rows + W::kRowStep - 1) / W::kRowStep;
  const int64_t tiles = (rows + W::kRows - 1) / W::kRows;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t first = steps * i / tiles * W::kRowStep;
    body(first, least(rows, steps * (i + 1) / tiles * W::kRowStep) - first);
  }
}

/// Covers [0, rows) x [0, panels): body.template operator()<R, P>(row, panel) for each tile of R rows and P panels.
/// Few rows take two panels side by side, where one alone has too few chains to hide the latency of an addition.
template <class W, class Body>
HWY_INLINE void for_each_tile_and_panel(int64_t rows, int64_t panels, const Body& body) {
  int64_t panel = 0;
  if constexpr (W::kPairRows > 0) {
    for (; rows <= W::kPairRows && panel + 2 <= panels; panel += 2) {
      with_rows<W::kPairRows>(rows, [&]<int R>() HWY_ATTR { body.template operator()<R, 2>(0, panel); });
    }
  }
  for (; panel < panels; ++panel) {
    for_each_tile<W>(rows, [&](int64_t row, int64_t count) HWY_ATTR {
      with_rows<W::kRows>(count, [&]<int R>() HWY_ATTR { body.template operator()<R, 1>(row, panel); });
    });
  }
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();
