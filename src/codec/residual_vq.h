// From codes to the flow's conditioning (codec.md A4).
#pragma once

#include <span>
#include <vector>

#include "codec/config.h"
#include "ops/weights.h"

namespace heartmula {

class ResidualVq {
 public:
  static std::vector<ExpectedTensor> expected_tensors(const CodecConfig& config, const WeightStore& store);
  /// For at most `frames` codes at a time.
  static ResidualVq load(Ops& ops, const WeightStore& store, const CodecConfig& config, DType dtype, int64_t frames);

  /// The vectors of a codebook, [codebook_size * codebook_dim].
  static std::vector<float> codebook(Ops& ops, const WeightStore& store, int64_t quantizer);

  /// out [codes, dim] of ids [codes, 8]: entries of the eight codebooks, -1 for a code that contributes nothing.
  void forward(Ops& ops, View out, std::span<const int32_t> ids) const;

 private:
  CodecConfig config_;
  std::vector<float> codebooks_;  // [8 * codebook_size, codebook_dim]
  Matrix project_out_;
  Tensor project_out_bias_;
  Matrix condition_;
  Tensor condition_bias_;
  Tensor sum_;        // [frames, codebook_dim]  weights' dtype
  Tensor projected_;  // [frames, dim]           weights' dtype
};

}  // namespace heartmula
