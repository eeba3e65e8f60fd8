// Exponentials of the scores of attention.
#pragma once

#include "cpu/kernels/simd.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {

constexpr float kLog2E = 1.44269504F;

/// Of a row's scores so far, or of those of one block; it stands behind the weighted values in a row of parts.
struct Softmax {
  float max;  // score, times scale and log2(e)
  float sum;  // of 2^(score - max)
};

/// 2^x for x <= 0 within 2.5 ulp; 2^-126 below -126.
HWY_INLINE F exp2_of_negative(F x) {
  x = hn::Max(set(-126.0F), x);                  // in this order a NaN stays one on x86
  const F shifted = hn::Add(x, set(0x1.8p23F));  // the nearest integer in the lowest bits
  const F f = hn::Sub(x, hn::Sub(shifted, set(0x1.8p23F)));
  F p = set(1.32646989e-3F);  // minimax over [-1/2, 1/2]: 0.8 ulp
  p = hn::MulAdd(p, f, set(9.67153348e-3F));
  p = hn::MulAdd(p, f, set(5.55073395e-2F));
  p = hn::MulAdd(p, f, set(0.240222424F));
  p = hn::MulAdd(p, f, set(0.693147004F));
  p = hn::MulAdd(p, f, set(1.0F));
  return hn::BitCast(DF(), hn::Add(hn::BitCast(DU(), p), hn::ShiftLeft<23>(hn::BitCast(DU(), shifted))));
}

/// Stores a weight and returns what was stored, for the sum is one of rounded weights.
HWY_INLINE F store_weight(F weight, float* to) {
  store(weight, to);
  return weight;
}
[[maybe_unused]] HWY_INLINE F store_weight(F weight, uint16_t* to) {  // not where bf16 is widened
#if HEARTMULA_BF16_DOT && !HWY_ARCH_ARM
  // The instruction would lose subnormal numbers, which a weight never is.
  const auto rounded = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(weight.raw));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), rounded);
  return low_f32(U{_mm512_cvtepu16_epi32(rounded)});
#else
  const U words = bf16_words(weight);
  store_words(words, to);
  return low_f32(words);
#endif
}

/// weights = 2^(scores * scale - max) of one row; zero up to the next whole vector.
template <typename Weight>
Softmax exponentials(const float* scores, Weight* weights, int64_t count, float scale) {
  const int64_t whole = count / kLanes * kLanes;
  const auto rest = hn::FirstN(DF(), static_cast<size_t>(count - whole));
  const F lowest = set(-__builtin_huge_valf());
  F greatest = lowest;
  for (int64_t i = 0; i < whole; i += kLanes) greatest = hn::Max(greatest, load(scores + i));
  if (whole < count) greatest = hn::Max(greatest, hn::IfThenElse(rest, load(scores + whole), lowest));
  const F max = hn::Mul(hn::MaxOfLanes(DF(), greatest), set(scale));
  const auto weight = [&](int64_t i)
                          HWY_ATTR { return exp2_of_negative(hn::Sub(hn::Mul(load(scores + i), set(scale)), max)); };
  F sums = zero();
  for (int64_t i = 0; i < whole; i += kLanes) sums = hn::Add(sums, store_weight(weight(i), weights + i));
  if (whole < count) sums = hn::Add(sums, store_weight(hn::IfThenElseZero(rest, weight(whole)), weights + whole));
  return {hn::GetLane(max), hn::GetLane(hn::SumOfLanes(DF(), sums))};
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();
