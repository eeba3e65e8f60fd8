// The sampler (sampling/sampler.h) on the device: the same code for the same logits, bit for bit.
#pragma once

#include <cuda_runtime.h>

#include <span>

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

/// One song's draw: logits [rule.settings.streams(), V], frame [1, 1] and codes [rows, 1] I32; the code goes into each
/// row of codes, -1 if logits are not numbers or the tape ends.
struct SongDraw {
  ConstView logits;
  ConstView frame;
  View codes;
  SamplingRule rule;
  DeviceNoise noise;
};

/// A block a song, side by side.
void sample(cudaStream_t stream, std::span<const SongDraw> songs, uint32_t codebook);

}  // namespace heartmula::cuda
