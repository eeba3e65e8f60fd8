// A codec of random weights and any size.
#pragma once

#include <memory>

#include "codec/heartcodec.h"
#include "cpu/testing.h"
#include "reference/codec.h"

namespace heartmula {

/// Unequal in every size; 72 samples a latent frame.
inline CodecConfig small_codec() {
  CodecConfig c;
  c.source = "config.json";
  c.codebook_size = 11;
  c.codebook_dim = 3;
  c.dim = 5;
  c.num_heads = 2;
  c.head_dim = 6;
  c.num_layers = 2;
  c.num_layers_2 = 3;
  c.latent_dim = 3;
  c.out_channels = 6;
  c.in_channels = 17;
  c.init_channel = 2;
  c.delay_kernel = 3;
  c.kernel = 5;
  c.res_kernel = 4;
  c.upsample_factors = {2, 3, 2, 1, 2};
  c.num_samples = 3;
  return c;
}

inline std::unique_ptr<RandomCheckpoint> random_codec(const CodecConfig& config, uint32_t seed) {
  return std::make_unique<RandomCheckpoint>(HeartCodec::expected_tensors(config, WeightStore()), seed);
}

/// Normal values.
inline oracle::Array normal_array(int64_t rows, int64_t cols, uint32_t seed, double scale = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  oracle::Array x(rows, cols);
  for (double& value : x.values) value = static_cast<float>(scale * normal(generator));
  return x;
}

inline Tensor uploaded(Ops& ops, const oracle::Array& x) {
  Tensor tensor = ops.allocate(DType::kF32, x.rows, x.cols);
  ops.upload(tensor, testing_cpu::floats(x));
  return tensor;
}

}  // namespace heartmula
