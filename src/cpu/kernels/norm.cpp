// out = x / sqrt(mean(x^2) + eps) * gain [* (1 + scale) + shift], and the same of x - mean(x) without gain.
//
// One row. Sums run in kSums vectors over the columns in a fixed order. out may be x.
#include "cpu/kernels/simd.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {
namespace {

// Four hide the latency of an addition; 32 lanes in all keep each one's sum, and so its rounding errors, small.
constexpr int kSums = kLanes >= 8 ? 4 : 32 / kLanes;

/// sum over i of body(x_i), zero beyond the row where body is given the number of lanes that count.
template <typename X, class Body>
HWY_INLINE float sum_of(const X* x, int64_t count, const Body& body) {
  F sums[kSums];
  for (int s = 0; s < kSums; ++s) sums[s] = zero();
  for (int64_t i = 0; i < count; i += kSums * kLanes) {
    for (int s = 0; s < kSums; ++s) {
      const int64_t at = i + s * kLanes;
      if (at < count) sums[s] = body(sums[s], load_first(x + at, count - at), count - at);
    }
  }
  F sum = sums[0];
  for (int s = 1; s < kSums; ++s) sum = hn::Add(sum, sums[s]);
  return sum_lanes(sum);
}

HWY_INLINE F inverse_root(float mean_of_squares, float eps) {
  return hn::Div(set(1.0F), hn::Sqrt(set(mean_of_squares + eps)));
}

}  // namespace

void rms_norm(Strip out, ConstStrip x, const float* gain, const float* scale, const float* shift, float eps,
              int64_t count) {
  typed(x, [&](const auto* from) HWY_ATTR {
    const float squares = sum_of(from, count, [](F sum, F v, int64_t) HWY_ATTR { return hn::MulAdd(v, v, sum); });
    const F inverse = inverse_root(squares / static_cast<float>(count), eps);
    typed(out, [&](auto* to) HWY_ATTR {
      for (int64_t i = 0; i < count; i += kLanes) {
        F v = hn::Mul(hn::Mul(load_first(from + i, count - i), inverse), load_first(gain + i, count - i));
        if (scale != nullptr) {
          v = hn::Mul(v, hn::Add(set(1.0F), load_first(scale + i, count - i)));
          v = hn::Add(v, load_first(shift + i, count - i));
        }
        store_first(v, to + i, count - i);
      }
    });
  });
}

void layer_norm(Strip out, ConstStrip x, const float* scale, const float* shift, float eps, int64_t count) {
  typed(x, [&](const auto* from) HWY_ATTR {
    const float sum = sum_of(from, count, [](F total, F v, int64_t) HWY_ATTR { return hn::Add(total, v); });
    const F mean = set(sum / static_cast<float>(count));
    const float squares = sum_of(from, count, [mean](F total, F v, int64_t left) HWY_ATTR {
      const F d = hn::Sub(v, mean);
      if (left >= kLanes) return hn::MulAdd(d, d, total);
      return hn::MulAdd(d, hn::IfThenElseZero(hn::FirstN(DF(), static_cast<size_t>(left)), d), total);
    });
    const F inverse = inverse_root(squares / static_cast<float>(count), eps);
    typed(out, [&](auto* to) HWY_ATTR {
      for (int64_t i = 0; i < count; i += kLanes) {
        F v = hn::Mul(hn::Sub(load_first(from + i, count - i), mean), inverse);
        v = hn::Mul(v, hn::Add(set(1.0F), load_first(scale + i, count - i)));
        store_first(hn::Add(v, load_first(shift + i, count - i)), to + i, count - i);
      }
    });
  });
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();
