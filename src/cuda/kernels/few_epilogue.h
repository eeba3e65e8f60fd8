// What follows the sums of a language model's product.
#pragma once

#include "cuda/kernels/device.h"
#include "cuda/kernels/few_product.h"
#include "cuda/kernels/row_sums.h"

namespace heartmula::cuda {

/// What stands in the output that a sum is added to.
__device__ inline float value_before(const FewProduct& p, int row, int column) {
  return p.add ? static_cast<const float*>(p.out)[row * p.out_stride + column] : 0.0f;
}

__device__ inline void store_few(const FewProduct& p, int row, int column, float value, float before) {
  const int64_t at = row * p.out_stride + column;
  if (p.out_bf16) {
    static_cast<uint16_t*>(p.out)[at] = to_bf16(value);
  } else {
    static_cast<float*>(p.out)[at] = p.add ? before + value : value;
  }
}

/// `sum` of output `output`.
__device__ inline void finish_output(const FewProduct& p, int row, int output, float sum, float before) {
  if (p.bias != nullptr) sum += p.bias[output];
  if (p.scale != nullptr) sum *= p.scale[output];
  store_few(p, row, output, sum, before);
}

/// One output of a unit, or one pair of gate and up, in one row: `index` counts them through all rows.
template <int kUnitOutputs>
struct FewItem {
  int row;
  int first;   // output of the unit
  int column;  // of the product's output
  bool valid;

  __device__ FewItem(const FewProduct& p, int unit, int index) {
    constexpr int kPairs = kUnitOutputs / 2;
    row = p.gate ? index / kPairs : index / kUnitOutputs;
    const int in_unit = p.gate ? index % kPairs : index % kUnitOutputs;
    column = unit * (p.gate ? kPairs : kUnitOutputs) + in_unit;
    first = p.gate ? 2 * in_unit : in_unit;
    valid = row < p.rows && column < (p.gate ? p.n / 2 : p.n);
  }
};

/// part(slice, row, output of the unit) are the partial sums.
template <int kUnitOutputs, typename Part>
__device__ inline void finish_item(const FewProduct& p, const FewItem<kUnitOutputs>& item, float before, Part part) {
  if (!item.valid) return;
  const auto sum_of = [&](int output) {
    float sum = part(0, item.row, output);
    for (int slice = 1; slice < 8; ++slice) sum += part(slice, item.row, output);
    return sum;
  };
  if (p.gate) {
    store_few(p, item.row, item.column, silu_of(sum_of(item.first)) * sum_of(item.first + 1), 0.0f);
  } else {
    finish_output(p, item.row, item.column, sum_of(item.first), before);
  }
}

}  // namespace heartmula::cuda
