// HeartCodec: codes to 48 kHz stereo, window by window (codec.md).
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "codec/flow_sampler.h"
#include "codec/noise.h"
#include "codec/residual_vq.h"
#include "codec/settings.h"
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

  /// The weights in a folder; a student's may lie in that of its base, too.
  static WeightStore open_weights(const std::filesystem::path& folder, const CodecConfig& config);
  /// The tensors that decoding needs; `store` decides between spellings that both are in use.
  static std::vector<ExpectedTensor> expected_tensors(const CodecConfig& config, const WeightStore& store);
  /// Checks them, then loads. The store may be closed afterwards.
  static HeartCodec load(Ops& ops, const WeightStore& store, const CodecConfig& config, DType dtype);
};

/// Called as a window proceeds: `done` of `total` parts (the flow's evaluations, then the wave decoder).
using WindowProgress = std::function<void(int64_t window, int64_t done, int64_t total)>;
/// May look at a window's final latents [its latents, out_channels], and change them, before they become samples.
using LatentTap = std::function<void(int64_t window, std::span<float> latents)>;

/// One song on its way through the codec, one window at a time: frames go in as they are made, samples come out as
/// soon as they are final.
class SongDecoder {
 public:
  /// All references must outlive the decoder; `settings` are resolved. A song whose windows are not decoded one after
  /// the other has at most `most_frames`.
  SongDecoder(Ops& ops, const HeartCodec& codec, const CodecSettings& settings, const CodecNoise& noise, AudioSink sink,
              int64_t most_frames = 1);
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
  void decode_window(const Window& window, bool is_last);
  void decode_windows(const std::vector<Window>& windows);
  /// Codes, noise and room for the latents of a window, the `index`th of those at once.
  FlowWindow put_window(const Window& window, int64_t number, int64_t index);
  /// Fades from the end of each window into the beginning of the next.
  void blend(std::span<const FlowWindow> windows);
  /// Throws Error(kFailure) that names the stage and where its weights are.
  void check_finite(std::span<const float> values, const char* what) const;
  /// Of the window, in latents_.
  void make_latents(const Window& window);
  void take_latents(int64_t window, View latents);
  /// Of a window's latents, those that are new in it and in the song.
  View fresh(const Window& window, View latents) const;
  void make_samples(ConstView latents, bool is_last);
  void join_samples(const Window& window);

  Ops& ops_;
  const HeartCodec& codec_;
  CodecSettings settings_;
  const CodecNoise& noise_;
  WindowProgress progress_;
  LatentTap tap_;
  AudioSink sink_;
  std::optional<WindowJoiner> joiner_;  // with compat
  int64_t window_latents_;              // of the longest window
  int64_t windows_at_once_;
  FlowSampler flow_;
  std::shared_ptr<WaveDecoder::Buffers> wave_buffers_;
  std::shared_ptr<WaveDecoder::History> wave_history_[2];

  std::vector<Frame> frames_;
  int64_t window_ = 0;  // the next one
  int64_t dropped_codes_ = 0;
  Tensor conditioning_;  // [windows * window_latents / 2, dim]
  Tensor noise_tensor_;  // [windows * window_latents, C]
  Tensor latents_;       // likewise
  Tensor context_;       // [windows * kContextLatents, C]: what the next window begins with, or each one does
  std::vector<float> host_latents_;
  std::vector<float> samples_[2];
};

}  // namespace heartmula
