// The epilogue of a product: out = [out +] [gain *] prelu(sum + bias), or silu(gate) * up.
#pragma once

#include "cpu/kernels/tile.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {

/// Of `rows` rows of one panel, from sums [rows][kPanel]; `row` and `column` are the first of the output.
template <typename Out>
HWY_NOINLINE void finish_sums(const Product& p, const float* sums, Out* out, int64_t row, int64_t rows,
                              int64_t column) {
  constexpr int kHalf = kPanel / 2;
  const int width = p.gated ? kHalf : kPanel;
  for (int lane = 0; lane < width; lane += kLanes) {
    const int64_t count = p.columns - column - lane;
    if (count <= 0) return;
    const F bias = p.bias != nullptr ? load_first(p.bias + column + lane, count) : zero();
    const F gain = p.gain != nullptr ? load_first(p.gain + column + lane, count) : zero();
    const F slope = p.prelu != nullptr ? set(*p.prelu) : zero();
    for (int64_t r = 0; r < rows; ++r) {
      F sum = load(sums + r * kPanel + lane);
      Out* to = out + (row + r) * p.out_stride + column + lane;
      if (p.gated) sum = hn::Mul(silu(sum), load(sums + r * kPanel + kHalf + lane));
      if (p.bias != nullptr) sum = hn::Add(sum, bias);
      if (p.prelu != nullptr) sum = hn::IfThenElse(hn::Lt(sum, zero()), hn::Mul(sum, slope), sum);
      if (p.gain != nullptr) sum = hn::Mul(sum, gain);
      if (p.add) sum = hn::Add(load_first(to, count), sum);
      store_first(sum, to, count);
      if (p.copy.data == nullptr) continue;
      typed(p.copy,
            [&](auto* copy) HWY_ATTR { store_first(sum, copy + (row + r) * p.copy_stride + column + lane, count); });
    }
  }
}

/// Calls body(sum, r, v) for every sum of a tile.
template <int R, int V, class Body>
HWY_INLINE void for_each_sum(F (&acc)[R][V], const Body& body) {
  HWY_UNROLL(8)
  for (int v = 0; v < V; ++v) {
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) body(acc[r][v], r, v);
  }
}

/// The same, of whole panels and without a gate, while the sums are still in registers.
template <int R, int V, typename Out>
HWY_INLINE void finish_registers(F (&acc)[R][V], const Product& p, Out* out, int64_t row, int64_t column) {
  out += row * p.out_stride + column;
  if (p.bias != nullptr) {
    for_each_sum(acc, [&](F& sum, int, int v) HWY_ATTR { sum = hn::Add(sum, load(p.bias + column + v * kLanes)); });
  }
  if (p.prelu != nullptr) {
    const F slope = set(*p.prelu);
    for_each_sum(
        acc, [&](F& sum, int, int) HWY_ATTR { sum = hn::IfThenElse(hn::Lt(sum, zero()), hn::Mul(sum, slope), sum); });
  }
  if (p.gain != nullptr) {
    for_each_sum(acc, [&](F& sum, int, int v) HWY_ATTR { sum = hn::Mul(sum, load(p.gain + column + v * kLanes)); });
  }
  if (p.add) {
    for_each_sum(acc,
                 [&](F& sum, int r, int v) HWY_ATTR { sum = hn::Add(load(out + r * p.out_stride + v * kLanes), sum); });
  }
  for_each_sum(acc, [&](F& sum, int r, int v) HWY_ATTR { store(sum, out + r * p.out_stride + v * kLanes); });
  if (p.copy.data == nullptr) return;
  typed(p.copy, [&](auto* copy) HWY_ATTR {
    copy += row * p.copy_stride + column;
    for_each_sum(acc, [&](F& sum, int r, int v) HWY_ATTR { store(sum, copy + r * p.copy_stride + v * kLanes); });
  });
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();
