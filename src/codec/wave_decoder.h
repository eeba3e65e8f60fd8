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

  /// What a call writes, for up to `frames` latent frames at a time; shared by all that is decoded one after the other.
  /// `tile_rows`: rows of a stage's output that its units work through at a time, the device's own choice if left out.
  struct Buffers;
  std::shared_ptr<Buffers> make_buffers(Ops& ops, int64_t frames, int64_t tile_rows) const;
  std::shared_ptr<Buffers> make_buffers(Ops& ops, int64_t frames) const;
  /// What the convolutions look back on: of one audio channel, from its beginning to what has been decoded of it.
  struct History;
  std::shared_ptr<History> make_history(Ops& ops) const;

  /// Appends the samples (f32) that latents [frames, latent_dim] (f32) make final: 1920 for each latent frame but for
  /// the latest two, on which samples still depend that come before them. The same samples, bit for bit, whether
  /// latents come one by one or all at once. Latents are rounded to ninths.
  void push(Ops& ops, std::vector<float>& samples, ConstView latents, Buffers& buffers, History& history) const;
  /// The same of the last latents (may be none); appends all samples that are left, and begins a new channel.
  void finish(Ops& ops, std::vector<float>& samples, ConstView latents, Buffers& buffers, History& history) const;

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
  struct StageBuffers;
  struct Pass;  // one call's buffers, history and samples

  void clear(Ops& ops, History& history) const;
  void run(Ops& ops, std::vector<float>& samples, ConstView latents, bool last, Buffers& buffers,
           History& history) const;
  void run_stage(Ops& ops, size_t index, ConstView in, Pass& pass) const;
  void run_units(Ops& ops, size_t index, View x, Pass& pass) const;
  void run_end(Ops& ops, int64_t rows, Pass& pass) const;

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
