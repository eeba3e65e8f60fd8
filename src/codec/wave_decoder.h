// From latents of one audio channel to samples: causal convolutions, worked through in tiles of time (codec.md A7).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "codec/config.h"
#include "ops/weights.h"

namespace heartmula {

class WaveDecoder {
 public:
  /// `store` decides how its convolutions' weight norm is spelled.
  static std::vector<ExpectedTensor> expected_tensors(const CodecConfig& config, const WeightStore& store);
  static WaveDecoder load(Ops& ops, const WeightStore& store, const CodecConfig& config, DType dtype);

  /// What a call writes, and the history in front of each tile; made once for windows of `frames` latent frames.
  /// `tile_rows`: rows of a stage's output that its units work through at a time, the device's own choice if left out.
  struct State;
  std::shared_ptr<State> make_state(Ops& ops, int64_t frames, int64_t tile_rows) const;
  std::shared_ptr<State> make_state(Ops& ops, int64_t frames) const;

  /// samples [frames * 1920] (host memory, f32) of latents [frames, latent_dim] (f32). Latents are rounded to ninths.
  void forward(Ops& ops, std::span<float> samples, ConstView latents, State& state) const;

  /// The values that the decoder makes of latents: round(9 x) / 9, on the host.
  static float level(float latent);

 private:
  struct Stage {  // a transposed convolution, then residual units
    int64_t factor = 1;
    int64_t channels = 0;
    Matrix up;  // [factor * channels, 2 * input channels]: all outputs of an input, from the taps of x[j - 1] and x[j]
    Tensor bias;  // [1, factor * channels]
    std::vector<ResidualUnit> units;
  };
  struct StageState;

  void run_stage(Ops& ops, size_t index, ConstView in, State& state) const;
  void run_units(Ops& ops, size_t index, View x, State& state) const;
  void finish(Ops& ops, int64_t rows, State& state) const;

  CodecConfig config_;
  DType dtype_ = DType::kF32;
  Matrix delay_;
  Tensor delay_bias_;
  std::vector<Stage> stages_;
  int64_t repeat_taps_ = 0;
  Matrix repeat_;       // [num_samples * channels, repeat_taps * channels]: repeat and convolution
  Tensor repeat_bias_;  // [1, num_samples * channels]
  float repeat_slope_ = 0;
  Matrix last_;  // [taps, channels]: each tap's product, summed along the diagonal afterwards
  Tensor last_bias_;
};

}  // namespace heartmula
