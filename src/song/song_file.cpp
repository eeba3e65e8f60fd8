#include "song/song_file.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <new>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/message.h"
#include "base/output_lock.h"
#include "checkpoint/memory_plan.h"
#include "lm/muq_embed.h"
#include "song/codes_file.h"
#include "song/outputs.h"
#include "song/settings.h"
#include "song/song_output.h"
#include "song/song_result.h"
#include "text/prompt.h"

namespace heartmula {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;

// Whether the codes are the beginning of what `request` makes without them: then it goes on as if never interrupted.
bool is_beginning_of(const Codes& codes, const Request& request, const ModelIdentity& model) {
  const CodesOrigin& origin = codes.origin;
  if (origin.request_json.empty() || request.song.continue_from_ms) return false;
  if (origin.language_model != model.fingerprint) return false;
  Request made = parse_request(origin.request_json, codes.name).request;
  if (!made.song.load_codes.empty()) return false;
  made.song.load_codes = request.song.load_codes;
  made.song.max_audio_length_ms = request.song.max_audio_length_ms;  // the longer song begins as the shorter one
  return same_codes(made, request);
}

// Whether codes were saved for good, and not left by a run that was interrupted.
bool are_kept(const Codes& codes) {
  return !parse_request(codes.origin.request_json, codes.name).request.output.save_codes.empty();
}

Codes loaded_codes(const Request& request, const SongFileHooks& hooks) {
  return hooks.codes != nullptr ? *hooks.codes : read_codes(request.song.load_codes);
}

// A warning if the codes are those of another model.
void compare_origin(const std::string& codes, const std::string& made_by, const char* model,
                    const ModelIdentity& identity, std::vector<std::string>& notes) {
  if (made_by.empty() || made_by == identity.fingerprint) return;
  notes.push_back(message("{}: made with another {} ({}) than {} ({})", codes, model, made_by, identity.name,
                          identity.fingerprint));
  spdlog::warn(notes.back());
}

// The frames that a song begins with.
std::vector<Frame> kept_frames(const Request& request, const Codes& codes, const LmConfig& config) {
  std::vector<Frame> frames = codes.frames;
  const auto stored = static_cast<int64_t>(frames.size());
  const int64_t keep = request.song.continue_from_ms ? *request.song.continue_from_ms / kFrameMs : stored;
  if (keep > stored) {
    throw user_error("--continue_from_ms is {}, but {} ends after {} ms", *request.song.continue_from_ms, codes.name,
                     stored * kFrameMs);
  }
  frames.resize(static_cast<size_t>(keep));
  check_codes(config, frames, codes.name);
  const int64_t most = *request.song.max_audio_length_ms / kFrameMs + 1;
  if (keep > most) {
    throw user_error(
        "{} keeps {} ms, more than --max_audio_length_ms {} for the whole song; raise it, or use "
        "--continue_from_ms",
        codes.name, keep * kFrameMs, *request.song.max_audio_length_ms);
  }
  return frames;
}

std::string shell_word(const std::string& text) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./,:@%";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? "'\\''" : std::string(1, c);
  return word + "'";
}

// Ends what is being handled with a message that says where the music is and how to go on.
[[noreturn]] void rethrow_with_codes(const std::string& codes, int64_t frames, const std::string& song) {
  ErrorKind kind = ErrorKind::kFailure;
  std::string what;
  try {
    throw;
  } catch (const Error& error) {
    kind = error.kind();
    what = kind == ErrorKind::kCancelled ? "cancelled" : error.what();
  } catch (const std::bad_alloc&) {
    what = "out of memory";
  } catch (const std::exception& error) {
    what = error.what();
  }
  const std::string files = fmt::format("{} --save_path {}", shell_word(codes), shell_word(song));
  throw Error(kind, fmt::format("{}; {} frames ({:.1f} s) are in {}: go on with `heartmula generate --load_codes {}`, "
                                "or hear them with `heartmula decode {}`",
                                what, frames, static_cast<double>(frames) * kFrameSeconds, codes, files, files));
}

// With --memory auto a plan that does not fit is made smaller, and `request` says how.
MemoryPlan checked_plan(Models& models, Request& request, int64_t context, int64_t begin_frames,
                        const SongFileHooks& hooks, std::vector<std::string>& notes) {
  const SongSize size = request.size(context, begin_frames);
  MemoryPlan plan = plan_memory(models, size);
  const AvailableMemory available = AvailableMemory::now(plan);
  if (request.machine.memory == MemoryPolicy::kAuto) {
    if (const auto saving = find_saving(plan, request.checkpoint, available)) {
      notes.push_back(fmt::format("the plan needs {:.2f} GB, more than there is: made with {}",
                                  static_cast<double>(plan.peak()) * 1e-9, saving->flags()));
      spdlog::warn(notes.back());
      request.machine.lazy_load = request.machine.lazy_load || saving->lazy_load;
      if (saving->bf16_codec) request.checkpoint.codec_dtype = DType::kBF16;
      models.take_less_memory(saving->lazy_load, saving->bf16_codec);
      plan = plan_memory(models, size);
    }
  }
  if (hooks.plan) hooks.plan(describe(plan, available));
  check_memory(plan, models.options().checkpoint, available);
  return plan;
}

ModelOptions model_options(const Request& request, const SongFileHooks& hooks) {
  return {.checkpoint = request.checkpoint, .machine = request.machine, .profile = hooks.profile};
}

// Frames and steps of the codec go into the profile, too.
ProgressSink progress_with_profile(const SongFileHooks& hooks) {
  if (hooks.profile == nullptr) return hooks.progress;
  return [&hooks](std::string_view stage, int64_t done, int64_t total, double seconds) {
    if (stage == "frames") hooks.profile->part_done(Profile::Track::kLanguageModel, fmt::format("frame {}", done - 1));
    if (stage == "codec") hooks.profile->part_done(Profile::Track::kCodec, fmt::format("codec step {}", done));
    if (hooks.progress) hooks.progress(stage, done, total, seconds);
  };
}

AudioSink audio_sink(SongOutput& output) {
  return [&](std::span<const float> left, std::span<const float> right) { output.write(left, right); };
}

// A codec that is a student solves in steps of its own: those are the song's.
void resolve_codec(Request& request, const Models& models) {
  request.codec.flow.steps = resolve_codec_settings(request.codec, models.codec_config()).flow.steps;
}

// A length that nobody gave is cut to what the model can hold.
void resolve_length(Request& request, const LmConfig& config, const Prompt& prompt, std::vector<std::string>& notes) {
  if (request.song.max_audio_length_ms) return;
  const int64_t longest = longest_audio_ms(config, prompt);
  request.song.max_audio_length_ms = std::min(kDefaultAudioLengthMs, std::max<int64_t>(longest, 0));
  if (longest >= kDefaultAudioLengthMs || longest <= 0) return;  // a prompt that does not fit is an error
  notes.push_back(fmt::format("the song is at most {:.1f} s long: the model's context holds no more",
                              static_cast<double>(longest) * 1e-3));
  spdlog::warn(notes.back());
}

}  // namespace

nlohmann::json make_song_file(Request request, const SongFileHooks& hooks, const CancelToken* cancel) {
  const Clock::time_point start = Clock::now();
  validate(request);
  if (!request.song.seed) request.song.seed = random_seed();
  Models models(model_options(request, hooks), CheckpointParts::kAll, cancel);
  const LmConfig& config = models.lm_config();
  Prompt prompt = make_prompt(models.tokenizer(), models.gen_config(), request.song.tags, request.song.lyrics);
  if (!request.song.muq_embed.empty()) prompt.muq_embed = read_muq_embed(request.song.muq_embed, config.muq_dim);
  std::vector<std::string> notes;
  resolve_codec(request, models);
  resolve_length(request, config, prompt, notes);
  check_lengths(request);
  const int64_t context = required_context(config, prompt, request.song.frame_loop(models.gen_config().audio_eos_id));
  std::vector<Frame> begin;
  LoadedCodes on_disk;
  if (!request.song.load_codes.empty()) {
    const Codes loaded = loaded_codes(request, hooks);
    const bool is_beginning = is_beginning_of(loaded, request, models.lm_identity());
    if (hooks.codes == nullptr) {
      on_disk = {.path = request.song.load_codes, .is_unfinished = is_beginning && !are_kept(loaded)};
    }
    compare_origin(loaded.name, loaded.origin.language_model, "language model", models.lm_identity(), notes);
    begin = kept_frames(request, loaded, config);
    if (is_beginning) request.song.load_codes.clear();
  }
  SongOutput output(request, hooks.audio, cancel, start, hooks.has_song_lock);
  const MemoryPlan plan = checked_plan(models, request, context, static_cast<int64_t>(begin.size()), hooks, notes);

  const fs::path codes = prepare_codes_path(request, output.is_stream(), on_disk);
  const OutputLock codes_lock(codes, request.output.save_codes.empty() ? "--save_path" : "--save_codes");
  CodesWriter writer(
      codes, {to_json(request).dump(), models.lm_identity().fingerprint, models.codec_identity().fingerprint}, begin);
  int64_t frames = 0;  // in the file of this run
  try {
    const SongHooks song_hooks = {
        .progress = progress_with_profile(hooks),
        .frame =
            [&](int64_t index, const Frame& frame) {
              writer.append(frame);
              frames = index + 1;
            },
        .audio = audio_sink(output),
    };
    const SongOutcome outcome = generate_song(models, request, prompt, begin, song_hooks, cancel);
    output.end(outcome.stop_reason == StopReason::kLength);
    nlohmann::json json = {{"request", to_json(request)},
                           {"result", result_of(request.song, outcome, output, plan, outcome.stop_reason,
                                                seconds_since(start), models, notes)}};
    output.finish(request, json);
    if (request.output.save_codes.empty()) {
      writer.remove();
    } else {
      writer.finish();
    }
    return json;
  } catch (const std::exception&) {
    std::string kept = on_disk.is_unfinished ? on_disk.path.string() : "";
    auto count = static_cast<int64_t>(begin.size());
    if (frames > 0) {
      kept = codes.string();
      count = frames;
    }
    if (kept.empty()) throw;
    try {
      if (frames > 0) writer.finish();
      if (cancel != nullptr && cancel->cancelled()) {
        const nlohmann::json json = {
            {"request", to_json(request)},
            {"result", cancelled_result(count, kept, plan, seconds_since(start), models, notes)}};
        output.finish_cancelled(json);
        if (hooks.cancelled) hooks.cancelled(json);
      }
    } catch (const std::exception&) {  // why the song ended matters more, and the codes on the disk are whole
    }
    // What a pipe or a full device could not take goes into a file next time.
    const std::string elsewhere = fmt::format("song.{}", audio_format_name(request.output.resolved_format()));
    rethrow_with_codes(kept, count, output.is_stream() ? unused_path(elsewhere) : request.output.save_path);
  }
}

nlohmann::json decode_song_file(Request request, const SongFileHooks& hooks, const CancelToken* cancel) {
  const Clock::time_point start = Clock::now();
  validate(request);
  if (!request.song.seed) request.song.seed = random_seed();
  const Codes codes = loaded_codes(request, hooks);
  if (codes.frames.empty()) throw user_error("{}: holds no frames", codes.name);
  const auto frames = static_cast<int64_t>(codes.frames.size());
  const bool by_length = frames >= request.song.frame_loop(0).max_frames();
  Request described = request;  // in the audio file: the song, not how it was decoded
  described.song.load_codes.clear();
  if (!codes.origin.request_json.empty()) {
    described.song.load_codes = parse_request(codes.origin.request_json, codes.name).request.song.load_codes;
  }
  // So that `generate` makes the same song of this request: these frames and no other.
  request.song.max_audio_length_ms = (frames - 1) * kFrameMs;
  request.song.min_audio_length_ms = std::min(request.song.min_audio_length_ms, *request.song.max_audio_length_ms);
  request.song.continue_from_ms.reset();
  request.output.save_codes.clear();
  Models models(model_options(request, hooks), CheckpointParts::kCodec, cancel);
  resolve_codec(request, models);
  std::vector<std::string> notes;
  compare_origin(codes.name, codes.origin.codec, "codec", models.codec_identity(), notes);
  SongOutput output(request, hooks.audio, cancel, start, hooks.has_song_lock);
  const MemoryPlan plan = checked_plan(models, request, 0, 0, hooks, notes);
  const SongHooks song_hooks = {
      .progress = progress_with_profile(hooks),
      .frame = {},
      .audio = audio_sink(output),
  };
  const SongOutcome outcome = decode_song(models, request, codes.frames, song_hooks);
  output.end(by_length);
  nlohmann::json json = {
      {"request", to_json(request)},
      {"result", result_of(request.song, outcome, output, plan, std::nullopt, seconds_since(start), models, notes)}};
  output.finish(described, json);
  return json;
}

}  // namespace heartmula
