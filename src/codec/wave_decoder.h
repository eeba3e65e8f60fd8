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
  /// `tile_rows`: rows of a stage's output that its units work through at a time, while they are in the cache.
  struct State;
  std::shared_ptr<State> make_state(Ops& ops, int64_t frames, int64_t tile_rows = kTileRows) const;
  static constexpr int64_t kTileRows = 480;

  /// samples [frames * 1920] (host memory, f32) of latents [frames, latent_dim] (f32). Latents are rounded to ninths.
  void forward(Ops& ops, std::span<float> samples, ConstView latents, State& state) const;

  /// The values that the decoder makes of latents: round(9 x) / 9, on the host.
  static float level(float latent);

 private:
  struct Unit {  // x += PReLU2(conv1x1(PReLU1(conv_d(x))))
    Matrix conv1;
    Tensor bias1;
    float slope1 = 0;
    Matrix conv2;
    Tensor bias2;
    float slope2 = 0;
    int64_t dilation = 1;
  };
  struct Stage {  // a transposed convolution as one product a phase, then residual units
    int64_t factor = 1;
    int64_t channels = 0;
    std::vector<Matrix> phases;  // [channels, 2 * input channels]: the taps of x[j - 1] and x[j]
    Tensor bias;
    std::vector<Unit> units;
  };
  struct StageState;

  void run_stage(Ops& ops, size_t index, ConstView in, State& state) const;
  void run_unit(Ops& ops, const Unit& unit, View x, View history, const StageState& s) const;
  void finish(Ops& ops, ConstView x, State& state) const;

  CodecConfig config_;
  DType dtype_ = DType::kF32;
  Matrix delay_;
  Tensor delay_bias_;
  std::vector<Stage> stages_;
  int64_t repeat_taps_ = 0;
  std::vector<Matrix> repeat_phases_;  // the repeat of each sample, folded into the convolution after it
  Tensor repeat_bias_;
  float repeat_slope_ = 0;
  Matrix last_;  // [taps, channels]: each tap's product, summed along the diagonal afterwards
  Tensor last_bias_;
};

}  // namespace heartmula
