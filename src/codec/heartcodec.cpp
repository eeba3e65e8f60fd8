#include "codec/heartcodec.h"

#include <algorithm>

#include "base/error.h"
#include "tensor/tensor_check.h"

namespace heartmula {

std::vector<ExpectedTensor> HeartCodec::expected_tensors(const CodecConfig& config, const WeightStore& store) {
  std::vector<ExpectedTensor> expected = ResidualVq::expected_tensors(config, store);
  for (const auto& part :
       {VelocityTransformer::expected_tensors(config), WaveDecoder::expected_tensors(config, store)}) {
    expected.insert(expected.end(), part.begin(), part.end());
  }
  return expected;
}

HeartCodec HeartCodec::load(Ops& ops, const WeightStore& store, const CodecConfig& config, DType dtype) {
  store.require(expected_tensors(config, store), config.source);
  return {config, dtype, ResidualVq::load(ops, store, config, dtype, kWindowCodes),
          VelocityTransformer::load(ops, store, config, dtype, kWindowLatents),
          WaveDecoder::load(ops, store, config, dtype)};
}

SongDecoder::SongDecoder(Ops& ops, const HeartCodec& codec, const CodecSettings& settings, const CodecNoise& noise,
                         AudioSink sink)
    : ops_(ops),
      codec_(codec),
      settings_(settings),
      noise_(noise),
      joiner_(std::move(sink)),
      flow_(ops, codec.transformer, codec.config, kWindowLatents, settings.flow),
      wave_state_(codec.wave.make_state(ops, kWindowLatents)),
      conditioning_(ops.allocate(DType::kF32, kWindowCodes, codec.config.dim)),
      noise_tensor_(ops.allocate(DType::kF32, kWindowLatents, codec.config.out_channels)),
      latents_(ops.allocate(DType::kF32, kWindowLatents, codec.config.out_channels)),
      context_(ops.allocate(DType::kF32, kContextLatents, codec.config.out_channels)),
      host_latents_(static_cast<size_t>(kWindowLatents * codec.config.out_channels)) {
  for (std::vector<float>& samples : samples_) samples.resize(static_cast<size_t>(kWindowSamples));
}

SongDecoder::~SongDecoder() = default;

int64_t SongDecoder::host_bytes() const {
  const auto floats = 2 * (kWindowSamples + kFadeSamples) + static_cast<int64_t>(host_latents_.size());
  return floats * static_cast<int64_t>(sizeof(float));
}

bool SongDecoder::fills_window(int64_t more) const {
  return static_cast<int64_t>(frames_.size()) + more >= window_ * kWindowHop + kWindowCodes;
}

void SongDecoder::push(std::span<const Frame> frames) {
  for (const Frame& frame : frames) {
    frames_.push_back(frame);
    dropped_codes_ += std::count_if(frame.begin(), frame.end(),
                                    [&](int32_t code) { return code < 0 || code >= codec_.config.codebook_size; });
  }
  while (fills_window(0)) decode_window();
}

void SongDecoder::finish() {
  if (frames_.empty()) throw user_error("there are no codes to decode");
  const WindowPlan plan = plan_windows(static_cast<int64_t>(frames_.size()), settings_.compat);
  joiner_.set_end(plan.samples);
  while (window_ < plan.windows) decode_window();
  joiner_.finish();
}

void SongDecoder::decode_window() {
  make_latents();
  for (int64_t channel = 0; channel < 2; ++channel) make_samples(channel, samples_[channel]);
  joiner_.add(samples_[0], samples_[1]);
  const int64_t parts = settings_.flow.steps + 1;
  if (progress_) progress_(window_, parts, parts);
  ++window_;
}

void SongDecoder::check_finite(std::span<const float> values, const char* what) const {
  if (all_finite(values)) return;
  throw failure("{} are not all numbers: are the weights beside {} whole?", what, codec_.config.source);
}

void SongDecoder::make_latents() {
  const int64_t song = static_cast<int64_t>(frames_.size());
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < kWindowCodes; ++i) {
    // Past its end a song is padded with its own beginning.
    for (const int32_t code : frames_[static_cast<size_t>((window_ * kWindowHop + i) % song)]) {
      ids.push_back(code >= 0 && code < codec_.config.codebook_size ? code : -1);
    }
  }
  codec_.vq.forward(ops_, conditioning_, ids);
  noise_.fill(window_, host_latents_, codec_.config.out_channels);
  ops_.upload(noise_tensor_, host_latents_);

  const int64_t known = window_ == 0 ? 0 : kContextLatents;
  flow_.sample(latents_, noise_tensor_, conditioning_, context_.slice_rows(0, known),
               [this](int64_t done, int64_t steps) {
                 if (progress_) progress_(window_, done, steps + 1);
               });
  ops_.copy(context_, latents_.slice_rows(kWindowLatents - kContextLatents, kContextLatents));
  ops_.download(host_latents_, latents_);
  check_finite(host_latents_, "the flow's latents");
  if (tap_) {
    tap_(window_, host_latents_);
    ops_.upload(latents_, host_latents_);
  }
}

void SongDecoder::make_samples(int64_t channel, std::span<float> samples) {
  const int64_t width = codec_.config.latent_dim;
  codec_.wave.forward(ops_, samples, latents_.slice_cols(channel * width, width), *wave_state_);
  check_finite(samples, "the wave decoder's samples");
}

}  // namespace heartmula
