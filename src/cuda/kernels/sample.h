// The sampler (sampling/sampler.h) on the device: the same code for the same logits, bit for bit.
#pragma once

#include <cuda_runtime.h>

#include "sampling/sampler.h"
#include "tensor/tensor.h"

namespace heartmula::cuda {

/// Where log E comes from: Philox by `seed`, or a recorded table in device memory (as log E).
struct DeviceNoise {
  uint64_t seed = 0;
  const double* tape = nullptr;  // [draws, vocabulary], in the order of sampling
  int64_t tape_draws = 0;
  int64_t codebooks = 0;
};

/// logits [rule.settings.streams(), V], codes [rows, 1] and frame [1, 1] I32: the code into each row of codes, -1 if
/// logits are not numbers or the tape ends.
void sample(cudaStream_t stream, View codes, ConstView logits, ConstView frame, const SamplingRule& rule,
            const DeviceNoise& noise, uint32_t codebook);

}  // namespace heartmula::cuda
