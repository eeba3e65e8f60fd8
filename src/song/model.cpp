// The public API on top of the generator.
#include <deque>
#include <iterator>
#include <mutex>
#include <optional>
#include <random>

#include "base/affinity.h"
#include "base/error.h"
#include "heartmula/heartmula.h"
#include "song/generator.h"
#include "song/songs_plan.h"

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

/// A song of a call, on its way into `made`; what it is made from must outlive it.
struct SongInCall {
  Request request;
  SongText text;
  std::mutex progress_mutex;
  SongHooks hooks;

  /// Throws what is wrong with the song.
  SongInCall(Models& models, Request base, const SongRequest& song, const Callbacks& callbacks, Song& made)
      : request(std::move(base)) {
    request.song.lyrics = song.lyrics;
    request.song.tags = song.tags;
    request.song.max_audio_length_ms = song.max_audio_length_ms;
    request.song.topk = song.topk;
    request.song.temperature = song.temperature;
    request.song.cfg_scale = song.cfg_scale;
    request.song.long_song = kLongSongs.parse("SongRequest::long_song", song.long_song);
    request.codec = codec_settings(song.codec);
    validate(request);
    request.song.seed = song.seed ? *song.seed : random_seed();
    check_codes(models.lm_config(), song.begin, "SongRequest::begin");
    text = make_song_text(models, request.song);
    resolve_passages(text, models, request.song);
    made.frames = song.begin;
    made.seed = *request.song.seed;
    hooks = make_hooks(callbacks, progress_mutex);
    hooks.frame = [&made, &callbacks](int64_t index, const Frame& frame) {
      made.frames.push_back(frame);
      if (callbacks.frame) callbacks.frame(index, frame);
    };
  }

  SongSize size(const Song& made) const { return request.size(text.context, std::ssize(made.frames)); }
};

void put_outcome(const SongOutcome& outcome, Song& song) {
  song.stop_reason = outcome.stop_reason;
  song.dropped_codes = outcome.dropped_codes;
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

Song Model::generate(const SongRequest& request, const Callbacks& callbacks, const CancelToken* cancel) {
  Models& models = state_->models;
  Song song;
  SongInCall call(models, state_->base_request(), request, callbacks, song);
  const UnpinAtEnd unpin;
  models.set_cancel_token(cancel);
  put_outcome(generate_song(models, call.request, call.text, request.begin, call.hooks, cancel), song);
  return song;
}

std::vector<SongResult> Model::generate_songs(std::span<const SongTask> tasks, int64_t songs_at_once,
                                              const CancelToken* cancel) {
  if (songs_at_once < 0) throw user_error("songs_at_once is {}, but must be 0 or more", songs_at_once);
  Models& models = state_->models;
  std::vector<SongResult> results(tasks.size());
  std::deque<SongInCall> calls;  // never moved
  std::vector<SongSize> sizes;
  std::vector<SongWork> works;
  for (size_t i = 0; i < tasks.size(); ++i) {
    SongResult& result = results[i];
    try {
      SongInCall& call =
          calls.emplace_back(models, state_->base_request(), tasks[i].request, tasks[i].callbacks, result.song);
      sizes.push_back(call.size(result.song));
      works.push_back({.request = &call.request,
                       .text = &call.text,
                       .begin = tasks[i].request.begin,
                       .cancel = tasks[i].cancel,
                       .hooks = call.hooks,
                       .made = [&result](const SongOutcome& outcome) { put_outcome(outcome, result.song); },
                       .failed = [&result](const std::exception_ptr& error) { result.error = error; }});
    } catch (const std::exception&) {
      result.error = std::current_exception();
    }
  }
  if (works.empty()) return results;
  const UnpinAtEnd unpin;
  models.set_cancel_token(cancel);
  const auto wish = songs_at_once > 0 ? std::optional(songs_at_once) : std::nullopt;
  const SongsPlan plan = plan_songs(models, sizes, wish);
  check_plan(models, plan, sizes);
  heartmula::generate_songs(models, works, plan.memory.songs, plan.memory.pages, {}, cancel);
  return results;
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
