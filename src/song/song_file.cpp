#include "song/song_file.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/message.h"
#include "song/codes_file.h"
#include "song/outputs.h"
#include "song/settings.h"
#include "song/song_job.h"
#include "song/song_output.h"
#include "song/song_result.h"
#include "song/songs_plan.h"

namespace heartmula {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;

Codes loaded_codes(const Request& request, const SongFileHooks& hooks) {
  return hooks.codes != nullptr ? *hooks.codes : read_codes(request.song.load_codes);
}

// Ends what is being handled with a message that says where the music is and how to go on.
[[noreturn]] void rethrow_with_codes(const KeptCodes& codes, const std::string& song) {
  const Error error = as_error(std::current_exception());
  const std::string files = fmt::format("{} --save_path {}", shell_word(codes.path), shell_word(song));
  throw Error(error.kind(),
              fmt::format("{}; {} frames ({:.1f} s) are in {}: go on with `heartmula generate --load_codes {}`, "
                          "or hear them with `heartmula decode {}`",
                          error.what(), codes.frames, static_cast<double>(codes.frames) * kFrameSeconds, codes.path,
                          files, files));
}

// Says what the songs will take, and throws if it is more than there is.
SongsPlan checked_plan(Models& models, std::span<const SongSize> songs, const std::optional<int64_t>& songs_at_once,
                       const SongFileHooks& hooks) {
  SongsPlan plan = plan_songs(models, songs, songs_at_once);
  if (!plan.note.empty()) spdlog::warn(plan.note);
  if (hooks.plan) hooks.plan(describe(plan.memory, plan.available));
  check_plan(models, plan, songs);
  return plan;
}

ModelOptions model_options(const Request& request, const SongFileHooks& hooks) {
  return {.checkpoint = request.checkpoint, .machine = request.machine, .profile = hooks.profile};
}

SongJobSettings job_settings(const SongFileHooks& hooks, const CancelToken* cancel, Clock::time_point start) {
  return {.progress = hooks.progress,
          .audio = hooks.audio,
          .profile = hooks.profile,
          .codes = hooks.codes,
          .has_song_lock = hooks.has_song_lock,
          .cancel = cancel,
          .start = start};
}

}  // namespace

nlohmann::json make_song_file(Request request, const SongFileHooks& hooks, const CancelToken* cancel) {
  const Clock::time_point start = Clock::now();
  validate(request);
  if (!request.song.seed) request.song.seed = random_seed();
  Models models(model_options(request, hooks), CheckpointParts::kAll, cancel);
  SongJob job(std::move(request), models, job_settings(hooks, cancel, start));
  job.open_output();
  const SongSize size = job.size();
  const SongsPlan plan = checked_plan(models, {&size, 1}, 1, hooks);
  if (plan.saving) job.save_memory(*plan.saving, plan.note);
  job.open_codes(plan.memory);
  try {
    return job.finish(generate_song(models, job.request(), job.text(), job.begin(), job.hooks(), cancel));
  } catch (const std::exception&) {
    const std::optional<KeptCodes> kept = job.kept();
    if (!kept) throw;
    try {
      const auto json = job.give_up(cancel != nullptr && cancel->cancelled());
      if (json && hooks.cancelled) hooks.cancelled(*json);
    } catch (const std::exception&) {  // why the song ended matters more, and the codes on the disk are whole
    }
    rethrow_with_codes(*kept, job.next_path());
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
  if (const auto note = origin_note(codes.name, codes.origin.codec, "codec", models.codec_identity())) {
    notes.push_back(*note);
    spdlog::warn(*note);
  }
  SongOutput output(request, hooks.audio, cancel, start, hooks.has_song_lock);
  const SongSize size = request.size(0);
  const SongsPlan plan = checked_plan(models, {&size, 1}, 1, hooks);
  if (plan.saving) {
    notes.push_back(plan.note);
    apply(*plan.saving, request);
  }
  const SongHooks song_hooks = {
      .progress = progress_with_profile(hooks.profile, hooks.progress),
      .frame = {},
      .audio = [&](std::span<const float> left, std::span<const float> right) { output.write(left, right); },
  };
  const SongOutcome outcome = decode_song(models, request, codes.frames, song_hooks);
  output.end(by_length);
  nlohmann::json json = {{"request", to_json(request)},
                         {"result", result_of(request.song, outcome, output, plan.memory, std::nullopt,
                                              seconds_since(start), models, notes, true)}};
  output.finish(described, json);
  return json;
}

}  // namespace heartmula
