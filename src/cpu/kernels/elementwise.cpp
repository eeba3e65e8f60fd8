// out[i] = f(x[i], y[i]) for `count` elements of one row. out may be an input of the same element type.
#include "cpu/kernels/simd.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {
namespace {

template <class Function>
HWY_INLINE void map(Strip out, ConstStrip x, int64_t count, const Function& f) {
  typed(x, [&](const auto* from) HWY_ATTR {
    typed(out, [&](auto* to) HWY_ATTR {
      for (int64_t i = 0; i < count; i += kLanes) store_first(f(load_first(from + i, count - i)), to + i, count - i);
    });
  });
}

template <class Function>
HWY_INLINE void map(Strip out, ConstStrip x, ConstStrip y, int64_t count, const Function& f) {
  typed(x, [&](const auto* from_x) HWY_ATTR {
    typed(y, [&](const auto* from_y) HWY_ATTR {
      typed(out, [&](auto* to) HWY_ATTR {
        for (int64_t i = 0; i < count; i += kLanes) {
          const F value = f(load_first(from_x + i, count - i), load_first(from_y + i, count - i));
          store_first(value, to + i, count - i);
        }
      });
    });
  });
}

}  // namespace

void copy(Strip out, ConstStrip x, int64_t count) {
  map(out, x, count, [](F v) HWY_ATTR { return v; });
}

/// a x + b y
void combine(Strip out, float a, ConstStrip x, float b, ConstStrip y, int64_t count) {
  map(out, x, y, count, [=](F v, F w) HWY_ATTR { return hn::Add(hn::Mul(set(a), v), hn::Mul(set(b), w)); });
}

/// y + guidance (x - y)
void guide(Strip out, ConstStrip x, ConstStrip y, float guidance, int64_t count) {
  map(out, x, y, count, [=](F v, F w) HWY_ATTR { return hn::Add(w, hn::Mul(set(guidance), hn::Sub(v, w))); });
}

/// x / (1 + e^-x)
void silu(Strip out, ConstStrip x, int64_t count) {
  map(out, x, count, [](F v) HWY_ATTR { return silu(v); });
}

/// round_half_even(levels x) / levels
void round_levels(Strip out, ConstStrip x, float levels, int64_t count) {
  map(out, x, count, [=](F v) HWY_ATTR { return hn::Div(hn::Round(hn::Mul(v, set(levels))), set(levels)); });
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();
