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

void apply(Request& target, const CodecRequest& codec) {
  target.codec_steps = codec.steps;
  target.codec_guidance_scale = codec.guidance_scale;
  target.compat = codec.compat;
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

}  // namespace

struct Model::State {
  ModelSettings settings;
  Models models;

  explicit State(const ModelSettings& s)
      : settings(s),
        models({.checkpoint = {s.model_path, s.version, to_dtype(s.mula_type), to_dtype(s.codec_type)},
                .machine = {.lazy_load = s.lazy_load, .threads = s.threads, .cpus = s.cpus, .mlock = s.mlock}},
               CheckpointParts::kAll, nullptr) {}

  Request base_request() const {
    Request request;
    request.model_path = settings.model_path;
    request.version = settings.version;
    request.mula_dtype = to_dtype(settings.mula_type);
    request.codec_dtype = to_dtype(settings.codec_type);
    request.lazy_load = settings.lazy_load;
    request.threads = settings.threads;
    request.cpus = settings.cpus;
    return request;
  }
};

Model::Model(const ModelSettings& settings) : state_(std::make_unique<State>(settings)) {}
Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

Song Model::generate(const SongRequest& song_request, const Callbacks& callbacks, const CancelToken* cancel) {
  Request request = state_->base_request();
  request.lyrics = song_request.lyrics;
  request.tags = song_request.tags;
  request.max_audio_length_ms = song_request.max_audio_length_ms;
  request.topk = song_request.topk;
  request.temperature = song_request.temperature;
  request.cfg_scale = song_request.cfg_scale;
  apply(request, song_request.codec);
  validate(request);
  request.seed = song_request.seed ? *song_request.seed : random_seed();

  Models& models = state_->models;
  check_codes(models.lm_config(), song_request.begin, "SongRequest::begin");
  const Prompt prompt = make_prompt(models.tokenizer(), models.gen_config(), request.tags, request.lyrics);
  Song song{.frames = song_request.begin, .seed = *request.seed};
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
  apply(request, codec_request);
  validate(request);
  request.seed = seed;
  const UnpinAtEnd unpin;
  std::mutex progress_mutex;
  state_->models.set_cancel_token(cancel);
  const SongOutcome outcome = decode_song(state_->models, request, frames, make_hooks(callbacks, progress_mutex));
  return {{frames.begin(), frames.end()}, StopReason::kLength, seed, outcome.dropped_codes};
}

}  // namespace heartmula
