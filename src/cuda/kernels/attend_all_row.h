// The numbers of softmax of a row whose scores come a few keys at a time.
#pragma once

#include <cmath>

#include "cuda/kernels/attend_all_parts.h"
#include "cuda/kernels/device.h"

namespace heartmula::cuda {

/// Softmax of one row so far.
struct AttendRow {
  float greatest = -1e30F;  // score; finite, so that a row without a key has the weight 0, not none
  float shift = 0.0F;       // of scaled scores
  float sum = 0.0F;         // of this thread's weights

  /// Takes the greatest score of the next keys; returns the factor for everything that was summed so far.
  __device__ float take(float greatest_of_step, float scale) {
    const float now = fmaxf(greatest, greatest_of_step);
    const float factor = exp2_fast(__fmul_rn(greatest - now, scale));
    greatest = now;
    shift = -__fmul_rn(now, scale);
    sum = __fmul_rn(sum, factor);
    return factor;
  }
  __device__ float weight(float score, float scale) const { return exp2_fast(fmaf(score, scale, shift)); }
};

}  // namespace heartmula::cuda
