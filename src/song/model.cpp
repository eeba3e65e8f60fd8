// The public API on top of the generator.
#include <mutex>
#include <random>

#include "base/affinity.h"
#include "base/error.h"
#include "heartmula/heartmula.h"
#include "song/generator.h"

namespace heartmula {
namespace {

DType to_dtype(WeightType type) {
  return type == WeightType::kBFloat16 ? DType::kBF16 : DType::kF32;
}

CodecSettings codec_settings(const CodecRequest& codec) {
  CodecSettings settings = CodecSettings::of(kCodecQualities.parse("CodecRequest::quality", codec.quality));
  if (codec.steps) settings.flow.steps = *codec.steps;
  if (codec.guidance_scale) settings.flow.guidance = *codec.guidance_scale;
  settings.windows = kWindowSchemes.parse("CodecRequest::windows", codec.windows);
  settings.compat = codec.compat;
  return settings;
}

SongHooks make_hooks(const Callbacks& callbacks, std::mutex& progress_mutex) {
  SongHooks hooks{.progress = {}, .frame = callbacks.frame, .audio = callbacks.audio};
  if (callbacks.progress) {
    hooks.progress = [&](std::string_view stage, int64_t done, int64_t total, double seconds) {
      const std::lock_guard lock(progress_mutex);
      callbacks.progress({stage, done, total, seconds});
    };
  }
  return hooks;
}

MachineSettings machine_settings(const ModelSettings& s) {
  MachineSettings machine{.device = parse_device("ModelSettings::device", s.device),
                          .lazy_load = s.lazy_load,
                          .threads = s.threads,
                          .cpus = s.cpus,
                          .mlock = s.mlock};
  if (!s.mula_device.empty()) machine.mula_device = parse_device("ModelSettings::mula_device", s.mula_device);
  if (!s.codec_device.empty()) machine.codec_device = parse_device("ModelSettings::codec_device", s.codec_device);
  return machine;
}

}  // namespace

struct Model::State {
  ModelSettings settings;
  Models models;

  explicit State(const ModelSettings& s)
      : settings(s),
        models({.checkpoint = {s.model_path, s.version, to_dtype(s.mula_type), to_dtype(s.codec_type), s.mula_path,
                               s.codec_path, s.tokenizer, s.lora},
                .machine = machine_settings(s)},
               CheckpointParts::kAll, nullptr) {}

  Request base_request() const {
    return {.checkpoint = models.options().checkpoint, .machine = models.options().machine};
  }
};

Model::Model(const ModelSettings& settings) : state_(std::make_unique<State>(settings)) {}
Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

Song Model::generate(const SongRequest& song_request, const Callbacks& callbacks, const CancelToken* cancel) {
  Request request = state_->base_request();
  request.song.lyrics = song_request.lyrics;
  request.song.tags = song_request.tags;
  request.song.max_audio_length_ms = song_request.max_audio_length_ms;
  request.song.topk = song_request.topk;
  request.song.temperature = song_request.temperature;
  request.song.cfg_scale = song_request.cfg_scale;
  request.codec = codec_settings(song_request.codec);
  validate(request);
  request.song.seed = song_request.seed ? *song_request.seed : random_seed();

  Models& models = state_->models;
  check_codes(models.lm_config(), song_request.begin, "SongRequest::begin");
  const Prompt prompt = make_prompt(models.tokenizer(), models.gen_config(), request.song.tags, request.song.lyrics);
  Song song{.frames = song_request.begin, .seed = *request.song.seed};
  const UnpinAtEnd unpin;
  std::mutex progress_mutex;
  SongHooks hooks = make_hooks(callbacks, progress_mutex);
  hooks.frame = [&](int64_t index, const Frame& frame) {
    song.frames.push_back(frame);
    if (callbacks.frame) callbacks.frame(index, frame);
  };
  state_->models.set_cancel_token(cancel);
  const SongOutcome outcome = generate_song(models, request, prompt, song_request.begin, hooks, cancel);
  song.stop_reason = outcome.stop_reason;
  song.dropped_codes = outcome.dropped_codes;
  return song;
}

Song Model::decode(std::span<const Frame> frames, const CodecRequest& codec_request, uint64_t seed,
                   const Callbacks& callbacks, const CancelToken* cancel) {
  Request request = state_->base_request();
  request.codec = codec_settings(codec_request);
  validate(request);
  request.song.seed = seed;
  const UnpinAtEnd unpin;
  std::mutex progress_mutex;
  state_->models.set_cancel_token(cancel);
  const SongOutcome outcome = decode_song(state_->models, request, frames, make_hooks(callbacks, progress_mutex));
  return {{frames.begin(), frames.end()}, StopReason::kLength, seed, outcome.dropped_codes};
}

}  // namespace heartmula
