#include "codec/heartcodec.h"

#include <algorithm>
#include <iterator>

#include "base/error.h"
#include "tensor/tensor_check.h"

namespace heartmula {

WeightStore HeartCodec::open_weights(const std::filesystem::path& folder, const CodecConfig& config) {
  WeightStore store = WeightStore::open(folder);
  if (config.student && !config.student->base.empty() &&
      store.packed() == nullptr) {  // packed, it has all that it needs
    store.add_missing(WeightStore::open(folder / config.student->base));
  }
  return store;
}

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
                         AudioSink sink, int64_t most_frames)
    : ops_(ops),
      codec_(codec),
      settings_(settings),
      noise_(noise),
      sink_(std::move(sink)),
      window_latents_(2 * longest_window(settings.windows)),
      windows_at_once_(settings.order == WindowOrder::kSequential
                           ? 1
                           : std::ssize(song_windows(settings.windows, false, most_frames))),
      flow_(ops, codec.transformer, codec.config, window_latents_, settings.flow, windows_at_once_),
      wave_buffers_(codec.wave.make_buffers(ops, window_latents_)),
      conditioning_(ops.allocate(DType::kF32, windows_at_once_ * window_latents_ / 2, codec.config.dim)),
      noise_tensor_(ops.allocate(DType::kF32, windows_at_once_ * window_latents_, codec.config.out_channels)),
      latents_(ops.allocate(DType::kF32, windows_at_once_ * window_latents_, codec.config.out_channels)),
      context_(ops.allocate(DType::kF32, windows_at_once_ * kContextLatents, codec.config.out_channels)) {
  for (auto& history : wave_history_) history = codec.wave.make_history(ops);
  host_latents_.reserve(static_cast<size_t>(window_latents_ * codec.config.out_channels));
  for (std::vector<float>& samples : samples_) samples.reserve(static_cast<size_t>(window_latents_ * kLatentSamples));
  if (settings.compat) joiner_.emplace(sink_);
}

SongDecoder::~SongDecoder() = default;

int64_t SongDecoder::host_bytes() const {
  const int64_t tails = settings_.compat ? kFadeSamples : 0;
  const auto floats = 2 * (window_latents_ * kLatentSamples + tails) + static_cast<int64_t>(host_latents_.capacity());
  return floats * static_cast<int64_t>(sizeof(float));
}

bool SongDecoder::fills_window(int64_t more) const {
  return settings_.order == WindowOrder::kSequential &&
         static_cast<int64_t>(frames_.size()) + more >= window_at(settings_.windows, window_).end();
}

void SongDecoder::push(std::span<const Frame> frames) {
  for (const Frame& frame : frames) {
    frames_.push_back(frame);
    dropped_codes_ += std::count_if(frame.begin(), frame.end(),
                                    [&](int32_t code) { return code < 0 || code >= codec_.config.codebook_size; });
  }
  while (fills_window(0)) decode_window(window_at(settings_.windows, window_), false);
}

void SongDecoder::finish() {
  if (frames_.empty()) throw user_error("there are no codes to decode");
  const auto song = static_cast<int64_t>(frames_.size());
  if (joiner_) {
    const WindowPlan plan = reference_windows(song);
    joiner_->set_end(plan.samples);
    while (window_ < plan.windows) decode_window(window_at(settings_.windows, window_), false);
    joiner_->finish();
    return;
  }
  const std::vector<Window> windows = song_windows(settings_.windows, settings_.short_last_window, song);
  if (settings_.order != WindowOrder::kSequential) {
    decode_windows(windows);
  } else if (window_ < std::ssize(windows)) {
    decode_window(windows.back(), true);
  } else {
    make_samples({}, true);  // the last window was full, and only its last samples are left
  }
}

void SongDecoder::decode_window(const Window& window, bool is_last) {
  make_latents(window);
  if (joiner_) {
    join_samples(window);
  } else {
    make_samples(fresh(window, latents_), is_last);
  }
  const int64_t parts = flow_.evaluations() + 1;
  if (progress_) progress_(window_, parts, parts);
  ++window_;
}

void SongDecoder::decode_windows(const std::vector<Window>& windows) {
  const auto count = std::ssize(windows);
  std::vector<FlowWindow> in_flow;
  for (int64_t i = 0; i < count; ++i) in_flow.push_back(put_window(windows[static_cast<size_t>(i)], i, i));
  const int64_t sweeps = settings_.order == WindowOrder::kParallel ? 2 : 1;
  const int64_t evaluations = sweeps * flow_.evaluations();
  for (int64_t sweep = 0; sweep < sweeps; ++sweep) {
    flow_.sample(in_flow, [&](int64_t done, int64_t of_sweep) {
      if (progress_) progress_(0, sweep * of_sweep + done, evaluations + 1);
    });
    if (sweep + 1 == sweeps) break;
    for (int64_t i = 1; i < count; ++i) {
      const View context = context_.slice_rows(i * kContextLatents, windows[static_cast<size_t>(i)].context_latents());
      ops_.copy(context,
                in_flow[static_cast<size_t>(i - 1)].latents.slice_rows(window_latents_ - context.rows, context.rows));
      in_flow[static_cast<size_t>(i)].context = context;
    }
  }
  if (settings_.order == WindowOrder::kBlended) blend(in_flow);
  for (int64_t i = 0; i < count; ++i) {
    const View latents = in_flow[static_cast<size_t>(i)].latents;
    take_latents(i, latents);
    make_samples(fresh(windows[static_cast<size_t>(i)], latents), i + 1 == count);
  }
  if (progress_) progress_(0, evaluations + 1, evaluations + 1);
}

// The result is where the end of the earlier window is, whose latents become samples there.
void SongDecoder::blend(std::span<const FlowWindow> windows) {
  for (size_t i = 1; i < windows.size(); ++i) {
    for (int64_t row = 0; row < kContextLatents; ++row) {
      const View end = windows[i - 1].latents.slice_rows(window_latents_ - kContextLatents + row, 1);
      const auto weight = static_cast<float>((static_cast<double>(row) + 0.5) / kContextLatents);
      ops_.combine(end, 1.0f - weight, end, weight, windows[i].latents.slice_rows(row, 1));
    }
  }
}

void SongDecoder::check_finite(std::span<const float> values, const char* what) const {
  if (all_finite(values)) return;
  throw failure("{} are not all numbers: are the weights beside {} whole?", what, codec_.config.source);
}

FlowWindow SongDecoder::put_window(const Window& window, int64_t number, int64_t index) {
  const auto song = static_cast<int64_t>(frames_.size());
  const int64_t channels = codec_.config.out_channels;
  std::vector<int32_t> ids;
  for (int64_t i = window.begin; i < window.end(); ++i) {
    // Past its end a song is padded with its own beginning.
    for (const int32_t code : frames_[static_cast<size_t>(i % song)]) {
      ids.push_back(code >= 0 && code < codec_.config.codebook_size ? code : -1);
    }
  }
  const View conditioning = conditioning_.slice_rows(index * window_latents_ / 2, window.codes);
  const View noise = noise_tensor_.slice_rows(index * window_latents_, window.latents());
  codec_.vq.forward(ops_, conditioning, ids);
  host_latents_.resize(static_cast<size_t>(window.latents() * channels));
  noise_.fill(number, 2 * window.begin, host_latents_, channels);
  ops_.upload(noise, host_latents_);
  return {latents_.slice_rows(index * window_latents_, window.latents()), noise, conditioning};
}

void SongDecoder::make_latents(const Window& window) {
  FlowWindow in_flow = put_window(window, window_, 0);
  in_flow.context = context_.slice_rows(0, window.context_latents());
  flow_.sample({&in_flow, 1}, [this](int64_t done, int64_t evaluations) {
    if (progress_) progress_(window_, done, evaluations + 1);
  });
  const Window next = window_at(settings_.windows, window_ + 1);
  if (next.begin + next.context <= window.end()) {
    ops_.copy(context_.slice_rows(0, next.context_latents()),
              in_flow.latents.slice_rows(2 * (next.begin - window.begin), next.context_latents()));
  }
  take_latents(window_, in_flow.latents);
}

void SongDecoder::take_latents(int64_t window, View latents) {
  host_latents_.resize(static_cast<size_t>(latents.rows * latents.cols));
  ops_.download(host_latents_, latents);
  check_finite(host_latents_, "the flow's latents");
  if (!tap_) return;
  tap_(window, host_latents_);
  ops_.upload(latents, host_latents_);
}

View SongDecoder::fresh(const Window& window, View latents) const {
  const int64_t end = std::min(window.end(), static_cast<int64_t>(frames_.size()));
  const int64_t known = window.context_latents();
  return latents.slice_rows(known, 2 * (end - window.begin) - known);
}

void SongDecoder::make_samples(ConstView latents, bool is_last) {
  const int64_t width = codec_.config.latent_dim;
  for (int64_t channel = 0; channel < 2; ++channel) {
    std::vector<float>& samples = samples_[channel];
    samples.clear();
    const ConstView of_channel = latents.rows > 0 ? latents.slice_cols(channel * width, width) : latents;
    if (is_last) {
      codec_.wave.finish(ops_, samples, of_channel, *wave_buffers_, *wave_history_[channel]);
    } else {
      codec_.wave.push(ops_, samples, of_channel, *wave_buffers_, *wave_history_[channel]);
    }
    check_finite(samples, "the wave decoder's samples");
  }
  if (!samples_[0].empty()) sink_(samples_[0], samples_[1]);
}

void SongDecoder::join_samples(const Window& window) {
  const int64_t width = codec_.config.latent_dim;
  for (int64_t channel = 0; channel < 2; ++channel) {
    samples_[channel].clear();
    const ConstView latents = latents_.slice_rows(0, window.latents()).slice_cols(channel * width, width);
    codec_.wave.finish(ops_, samples_[channel], latents, *wave_buffers_, *wave_history_[channel]);
    check_finite(samples_[channel], "the wave decoder's samples");
  }
  joiner_->add(samples_[0], samples_[1]);
}

}  // namespace heartmula
