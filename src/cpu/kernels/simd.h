// What the kernels share: the vector of one instruction set, exact bf16 conversions, partial vectors.
#pragma once

#ifndef HWY_COMPILE_ONLY_STATIC
#define HWY_COMPILE_ONLY_STATIC
#endif
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "cpu/kernels/kernels.h"

#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define HEARTMULA_BF16_DOT 1
#else
#define HEARTMULA_BF16_DOT 0
#endif

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DU = hn::RebindToUnsigned<DF>;
using DI = hn::RebindToSigned<DF>;
using DH = hn::Rebind<uint16_t, DF>;  // as many 16-bit lanes as there are floats
using F = hn::Vec<DF>;
using U = hn::Vec<DU>;

constexpr int kLanes = static_cast<int>(hn::MaxLanes(DF()));
constexpr int kVectors = kLanes >= 8 ? 2 : 4;  // of one panel
constexpr int kPanel = kVectors * kLanes;
// As many sums as leave registers for the weights of a step and one broadcast: 24 of 32 registers, 12 of 16. NEON needs
// a register for each row's activations, too, and one or two to widen bf16.
constexpr int kTileRows = HWY_ARCH_ARM ? 5 : kLanes == 16 ? 12 : kLanes == 8 ? 6 : 2;

constexpr int64_t kCacheLine = 64;  // at least, on every processor that this is for

// How a product of many rows is cut into chunks. Rows times a block of k (product.cpp) should fit the second cache, but
// wider vectors need more rows for each fetch of the weights.
constexpr int64_t kBlockRows = kLanes == 16 ? 192 : 96;
constexpr int64_t kBlockColumns = 256;

constexpr int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}
constexpr int64_t round_up(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

HWY_INLINE F zero() {
  return hn::Zero(DF());
}
HWY_INLINE F set(float value) {
  return hn::Set(DF(), value);
}

HWY_INLINE F load(const float* p) {
  return hn::LoadU(DF(), p);
}
HWY_INLINE F load(const uint16_t* bf16) {
  return hn::BitCast(DF(), hn::ShiftLeft<16>(hn::PromoteTo(DU(), hn::LoadU(DH(), bf16))));
}

HWY_INLINE U load(const uint32_t* p) {
  return hn::LoadU(DU(), p);
}

/// The pair of bf16 in each 32-bit lane, exactly.
HWY_INLINE F low_f32(U pair) {
  return hn::BitCast(DF(), hn::ShiftLeft<16>(pair));
}
HWY_INLINE F high_f32(U pair) {
  return hn::BitCast(DF(), hn::And(pair, hn::Set(DU(), 0xFFFF0000U)));
}

HWY_INLINE void store(F v, float* p) {
  hn::StoreU(v, DF(), p);
}
/// The nearest bf16 of each lane in the lower half of a word, ties to even, a NaN as a quiet NaN: as f32_to_bf16 does
/// (Highway 1.0 would truncate, and the instruction for it loses subnormal numbers).
HWY_INLINE U bf16_words(F v) {
  const U bits = hn::BitCast(DU(), v);
  const U lowest = hn::And(hn::ShiftRight<16>(bits), hn::Set(DU(), 1));
  const U rounded = hn::Add(bits, hn::Add(lowest, hn::Set(DU(), 0x7FFF)));
  const U quiet = hn::Or(bits, hn::Set(DU(), 0x400000));
  return hn::ShiftRight<16>(hn::IfThenElse(hn::RebindMask(DU(), hn::Eq(v, v)), rounded, quiet));
}
HWY_INLINE void store_words(U bf16_words, uint16_t* bf16) {
  hn::StoreU(hn::DemoteTo(DH(), hn::BitCast(DI(), bf16_words)), DH(), bf16);
}
HWY_INLINE void store(F v, uint16_t* bf16) {
  store_words(bf16_words(v), bf16);
}

/// Rounded to bf16 and widened again.
HWY_INLINE F round_bf16(F v) {
  return low_f32(bf16_words(v));
}

/// The first `count` lanes, zero beyond; the memory beyond is not touched.
template <typename T>
HWY_INLINE F load_first(const T* p, int64_t count) {
  if (count >= kLanes) return load(p);
  HWY_ALIGN T lanes[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = p[i];
  return load(lanes);
}
template <typename T>
HWY_INLINE void store_first(F v, T* p, int64_t count) {
  if (count >= kLanes) return store(v, p);
  HWY_ALIGN T lanes[kLanes];
  store(v, lanes);
  for (int64_t i = 0; i < count; ++i) p[i] = lanes[i];
}

/// e^x to about 1 ulp; 0 below -104, e^88 above 88, where Highway's Exp would wrap.
HWY_INLINE F exp(F x) {
  return hn::Exp(DF(), hn::Min(x, set(88.0F)));
}
HWY_INLINE F silu(F x) {
  return hn::Div(x, hn::Add(set(1.0F), exp(hn::Neg(x))));
}

/// Lane by lane in ascending order: the same for every row.
HWY_INLINE float sum_lanes(F v) {
  HWY_ALIGN float lanes[kLanes];
  hn::Store(v, DF(), lanes);
  float sum = lanes[0];
  for (int i = 1; i < kLanes; ++i) sum += lanes[i];
  return sum;
}

/// Calls body(out, x...) with typed pointers instead of strips.
template <typename Body>
HWY_INLINE void typed(ConstStrip x, const Body& body) {
  if (x.element == Element::kF32) {
    body(static_cast<const float*>(x.data));
  } else {
    body(static_cast<const uint16_t*>(x.data));
  }
}
template <typename Body>
HWY_INLINE void typed(Strip x, const Body& body) {
  if (x.element == Element::kF32) {
    body(static_cast<float*>(x.data));
  } else {
    body(static_cast<uint16_t*>(x.data));
  }
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();
