// Activations copied into the form that a tile wants: widened, or without gaps between taps.
#pragma once

#include "cpu/kernels/tile.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {

/// Elements [first, first + count) of a staged row.
template <class W>
HWY_INLINE void stage_run(typename W::Activation* rows, int64_t pitch, int64_t row, int64_t first, const uint16_t* from,
                          int64_t count) {
  if constexpr (W::kRowStep > 1) {
    W::stage_run(rows, pitch, row, first, from, count);
  } else {
    typename W::Activation* to = rows + row * pitch + first;
    if constexpr (sizeof(*to) == sizeof(float)) {
      for (int64_t i = 0; i < count; i += kLanes) store_first(load_first(from + i, count - i), to + i, count - i);
    } else {
      for (int64_t i = 0; i < count; ++i) to[i] = from[i];
    }
  }
}

/// Element k - k_begin of the staged row is a[row + tap * dilation][channel] for flat k = tap * channels + channel, and
/// zero beyond the last k.
template <class W>
void stage_flat(typename W::Activation* out, int64_t pitch, const Product& p, int64_t row_begin, int64_t rows,
                int64_t k_begin, int64_t k_end) {
  const int64_t k_stop = least(k_end, p.taps * p.channels);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = k_begin; k < k_stop;) {
      const int64_t tap = k / p.channels;
      const int64_t channel = k % p.channels;
      const int64_t count = least(p.channels - channel, k_stop - k);
      const uint16_t* from =
          static_cast<const uint16_t*>(p.a) + (row_begin + r + tap * p.dilation) * p.a_stride + channel;
      stage_run<W>(out, pitch, r, k - k_begin, from, count);
      k += count;
    }
    constexpr uint16_t kNothing[kPanel] = {};
    stage_run<W>(out, pitch, r, k_stop - k_begin, kNothing, k_end - k_stop);
  }
}

/// Channels [first, first + count) of rows [row_begin, row_begin + rows), of whatever tap.
template <class W>
void stage_rows(typename W::Activation* out, int64_t pitch, const Product& p, int64_t row_begin, int64_t rows,
                int64_t first, int64_t count) {
  for (int64_t r = 0; r < rows; ++r) {
    stage_run<W>(out, pitch, r, 0, static_cast<const uint16_t*>(p.a) + (row_begin + r) * p.a_stride + first, count);
  }
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();
