// What follows the sums of a language model's product.
#pragma once

#include "cuda/kernels/device.h"
#include "cuda/kernels/few_product.h"
#include "cuda/kernels/row_sums.h"

namespace heartmula::cuda {

__device__ inline void store_few(const FewProduct& p, int row, int column, float value) {
  const int64_t at = row * p.out_stride + column;
  if (p.out_bf16) {
    static_cast<uint16_t*>(p.out)[at] = to_bf16(value);
  } else if (p.add) {
    static_cast<float*>(p.out)[at] += value;
  } else {
    static_cast<float*>(p.out)[at] = value;
  }
}

/// `sum` of output `output`.
__device__ inline void finish_output(const FewProduct& p, int row, int output, float sum) {
  if (output >= p.n) return;
  if (p.bias != nullptr) sum += p.bias[output];
  if (p.scale != nullptr) sum *= p.scale[output];
  store_few(p, row, output, sum);
}

/// The sums of outputs 2 pair and 2 pair + 1, gate and up.
__device__ inline void finish_pair(const FewProduct& p, int row, int pair, float gate, float up) {
  if (2 * pair < p.n) store_few(p, row, pair, silu_of(gate) * up);
}

/// Items of a unit: its outputs, or its pairs of gate and up; item `index` of all rows.
/// part(slice, row, output of the unit) are the partial sums.
template <typename Part>
__device__ inline void finish_unit(const FewProduct& p, int unit, int unit_outputs, int index, Part part) {
  const auto sum_of = [&](int row, int output) {
    float sum = part(0, row, output);
    for (int slice = 1; slice < 8; ++slice) sum += part(slice, row, output);
    return sum;
  };
  if (p.gate) {
    const int pairs = unit_outputs / 2;
    const int row = index / pairs;
    const int pair = index % pairs;
    if (row < p.rows) {
      finish_pair(p, row, unit * pairs + pair, sum_of(row, 2 * pair), sum_of(row, 2 * pair + 1));
    }
  } else {
    const int row = index / unit_outputs;
    const int output = index % unit_outputs;
    if (row < p.rows) finish_output(p, row, unit * unit_outputs + output, sum_of(row, output));
  }
}

}  // namespace heartmula::cuda
