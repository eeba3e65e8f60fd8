// HeartCodec: codes to 48 kHz stereo, window by window (codec.md).
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "codec/flow_sampler.h"
#include "codec/noise.h"
#include "codec/residual_vq.h"
#include "codec/wave_decoder.h"
#include "codec/windows.h"

namespace heartmula {

/// The weights, shared by all songs.
struct HeartCodec {
  CodecConfig config;
  DType dtype = DType::kF32;
  ResidualVq vq;
  VelocityTransformer transformer;
  WaveDecoder wave;

  /// The tensors that decoding needs; `store` decides between spellings that both are in use.
  static std::vector<ExpectedTensor> expected_tensors(const CodecConfig& config, const WeightStore& store);
  /// Checks them, then loads. The store may be closed afterwards.
  static HeartCodec load(Ops& ops, const WeightStore& store, const CodecConfig& config, DType dtype);
};

struct CodecSettings {
  FlowSettings flow;
  bool compat = false;  // reproduce the reference's fault of losing the end of some songs (windows.h)
};

/// Called as a window proceeds: `done` of `total` parts (the Euler steps, then the wave decoder).
using WindowProgress = std::function<void(int64_t window, int64_t done, int64_t total)>;
/// May look at a window's final latents [kWindowLatents, out_channels], and change them, before they become samples.
using LatentTap = std::function<void(int64_t window, std::span<float> latents)>;

/// One song on its way through the codec, one window at a time: frames go in as they are made, samples come out as
/// soon as they are final.
class SongDecoder {
 public:
  /// All references must outlive the decoder.
  SongDecoder(Ops& ops, const HeartCodec& codec, const CodecSettings& settings, const CodecNoise& noise,
              AudioSink sink);
  ~SongDecoder();

  void set_progress(WindowProgress progress) { progress_ = std::move(progress); }
  void set_latent_tap(LatentTap tap) { tap_ = std::move(tap); }

  /// Whether so many frames more fill a window.
  bool fills_window(int64_t more) const;
  /// Decodes every window that the frames so far fill.
  void push(std::span<const Frame> frames);
  /// Decodes the rest. Throws Error(kUser) if there are no frames.
  void finish();

  /// Host memory that the decoder holds.
  int64_t host_bytes() const;
  /// Codes that the codec has no entry for: they contribute nothing (lm.md B7).
  int64_t dropped_codes() const { return dropped_codes_; }

 private:
  void decode_window();
  /// Throws Error(kFailure) that names the stage and where its weights are.
  void check_finite(std::span<const float> values, const char* what) const;
  void make_latents();
  void make_samples(int64_t channel, std::span<float> samples);

  Ops& ops_;
  const HeartCodec& codec_;
  CodecSettings settings_;
  const CodecNoise& noise_;
  WindowProgress progress_;
  LatentTap tap_;
  WindowJoiner joiner_;
  FlowSampler flow_;
  std::shared_ptr<WaveDecoder::State> wave_state_;

  std::vector<Frame> frames_;
  int64_t window_ = 0;
  int64_t dropped_codes_ = 0;
  Tensor conditioning_;  // [kWindowCodes, dim]
  Tensor noise_tensor_;  // [kWindowLatents, C]
  Tensor latents_;       // [kWindowLatents, C]
  Tensor context_;       // [kContextLatents, C]: the end of the window before
  std::vector<float> host_latents_;
  std::vector<float> samples_[2];
};

}  // namespace heartmula
