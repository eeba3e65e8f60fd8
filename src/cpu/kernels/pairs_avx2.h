// The pair k, k + 1 of bf16 a step (tile.h) for the 16 registers of AVX2, of which 12 hold sums.
#pragma once

#include "cpu/kernels/tile.h"

#if HWY_TARGET == HWY_AVX2

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {

/// Like WeightsPairs, but nothing is left to the compiler: g++ 12 takes forms of the multiply-add that put a sum into
/// another register, and keeps words for the second half of the step; both make it spill (60 instead of 80 GFLOP/s).
struct Pairs : WeightsPairs {
  template <int R, int V>
  static HWY_INLINE void step(F (&acc)[R][V], const float* const* a, int64_t a_stride, const uint32_t* const* w) {
    const auto word = [&](const uint32_t* const* words, int v)
                          HWY_ATTR { return load(words[v / kVectors] + v % kVectors * kLanes); };
    half(
        acc, [&](int r) HWY_ATTR { return set(a[r / 4][r % 4 * a_stride]); },
        [&](int v) HWY_ATTR { return hn::BitCast(DF(), hn::ShiftLeft<16>(word(w, v))); });
    constexpr int kPanels = V / kVectors;
    const uint32_t* again[kPanels];
    for (int p = 0; p < kPanels; ++p) {
      again[p] = w[p];
      asm("" : "+r"(again[p]) : "x"(acc[R - 1][V - 1].raw));  // loaded anew, and not before the first half is done
    }
    half(
        acc, [&](int r) HWY_ATTR { return set(a[r / 4][r % 4 * a_stride + 1]); },
        [&](int v) HWY_ATTR { return hn::BitCast(DF(), hn::And(word(again, v), hn::Set(DU(), 0xFFFF0000U))); });
  }

 private:
  /// acc[r][v] += x(r) * weight(v): the fewer of the two stay in registers.
  template <int R, int V, class X, class Weight>
  static HWY_INLINE void half(F (&acc)[R][V], const X& x, const Weight& weight) {
    if constexpr (R < V) {
      F rows[R];
      HWY_UNROLL(8)
      for (int r = 0; r < R; ++r) rows[r] = x(r);
      HWY_UNROLL(8)
      for (int v = 0; v < V; ++v) {
        const F passing = weight(v);
        HWY_UNROLL(8)
        for (int r = 0; r < R; ++r) add_product(acc[r][v], rows[r], passing);
      }
    } else {
      F vectors[V];
      HWY_UNROLL(8)
      for (int v = 0; v < V; ++v) vectors[v] = weight(v);
      HWY_UNROLL(8)
      for (int r = 0; r < R; ++r) {
        const F passing = x(r);
        HWY_UNROLL(8)
        for (int v = 0; v < V; ++v) add_product(acc[r][v], passing, vectors[v]);
      }
    }
  }

  static HWY_INLINE void add_product(F& sum, F x, F weight) {
    asm("vfmadd231ps %2, %1, %0" : "+x"(sum.raw) : "x"(x.raw), "x"(weight.raw));
  }
};

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();

#else

namespace heartmula::cpu::HEARTMULA_KERNELS {
using Pairs = WeightsPairs;
}

#endif
