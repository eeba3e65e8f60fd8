#include "song/song_file.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <new>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>

#include "audio/audio_writer.h"
#include "audio/meters.h"
#include "base/cpu_info.h"
#include "base/error.h"
#include "base/file.h"
#include "checkpoint/memory_plan.h"
#include "song/codes_file.h"
#include "text/prompt.h"

namespace heartmula {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kFrameSeconds = 1e-3 * kFrameMs;
constexpr double kWorthALimit = 10;  // seconds of work; measuring the machine takes half of one

/// The audio file of a song, its levels, and the JSON beside it.
class SongOutput {
 public:
  SongOutput(const Request& request, const CancelToken* cancel)
      : path_(request.save_path),
        kind_(check_writable(path_)),
        format_(request.format ? *request.format : audio_format_of(path_)) {
    if (kind_ == OutputKind::kRegular) check_writable(sidecar_path());
    writer_.emplace(path_, format_, resolve_sample_format(format_, request.sample_format), cancel);
  }

  OutputKind kind() const { return kind_; }

  void write(std::span<const float> left, std::span<const float> right) {
    meter_.add(left);
    meter_.add(right);
    samples_ += static_cast<int64_t>(left.size());
    writer_->write(left, right);
  }

  void finish(const Request& request, const nlohmann::json& sidecar) {
    const nlohmann::json json = to_json(request);
    writer_->finish({.title = request.title,
                     .artist = "HeartMuLa",
                     .genre = request.tags,
                     .comment = "Made with heartmula.cpp",
                     .lyrics = request.lyrics,
                     .seed = std::to_string(*request.seed),
                     .request_json = json.dump()});
    if (kind_ == OutputKind::kRegular) write_sidecar(sidecar);
  }

  /// Where the song would be, unless an earlier one is there: that has a sidecar of its own.
  void finish_cancelled(const nlohmann::json& sidecar) const {
    std::error_code ignored;
    if (kind_ == OutputKind::kRegular && !fs::exists(path_, ignored)) write_sidecar(sidecar);
  }

  const LevelMeter& meter() const { return meter_; }
  double duration_s() const { return static_cast<double>(samples_) / static_cast<double>(kSampleRate); }

 private:
  fs::path sidecar_path() const { return path_.string() + ".json"; }
  void write_sidecar(const nlohmann::json& sidecar) const {
    const std::string text = sidecar.dump(2) + "\n";
    AtomicFile file(sidecar_path());
    file.write(std::as_bytes(std::span(text)));
    file.commit(true);
  }

  fs::path path_;
  OutputKind kind_;
  AudioFormat format_;
  std::optional<AudioWriter> writer_;
  LevelMeter meter_;
  int64_t samples_ = 0;
};

// Where the codes are while the song is made: beside it, or among the temporary files if it goes into a pipe.
fs::path codes_path(const Request& request, OutputKind kind) {
  if (!request.save_codes.empty()) return request.save_codes;
  if (kind == OutputKind::kRegular) return request.save_path + ".codes.safetensors";
  return fs::temp_directory_path() / fmt::format("heartmula-{}.codes.safetensors", getpid());
}

// Codes that an earlier run rescued are not this one's to overwrite.
void set_aside(const fs::path& codes, const Request& request, const std::string& unfinished) {
  std::error_code error;
  if (!request.save_codes.empty() || !fs::exists(codes, error)) return;
  for (const std::string& mine : {request.load_codes, unfinished}) {
    if (fs::equivalent(codes, mine, error)) return;
  }
  fs::path kept;
  for (int i = 1; kept.empty() || fs::exists(kept, error); ++i) {
    kept = fmt::format("{}.codes.{}.safetensors", request.save_path, i);
  }
  fs::rename(codes, kept, error);
  if (error) throw user_error("{}: holds codes of an earlier run and cannot be set aside", codes.string());
  spdlog::warn("{}: codes of an earlier run, kept as {}", codes.string(), kept.string());
}

std::vector<std::string> warnings_of(const LevelMeter& meter, const SongOutcome& outcome, const Models& models) {
  std::vector<std::string> warnings = models.warnings();
  if (meter.silent()) warnings.emplace_back("silence: no sample is louder than -60 dB of full scale");
  if (meter.not_a_number() > 0) warnings.push_back(fmt::format("{} samples are not a number", meter.not_a_number()));
  if (meter.clipped() > 0) warnings.push_back(fmt::format("clipping: {} samples beyond full scale", meter.clipped()));
  if (outcome.dropped_codes > 0) {
    warnings.push_back(fmt::format("{} codes have no entry in the codec and were dropped", outcome.dropped_codes));
  }
  return warnings;
}

// What the machine could do at most, and which part of that each stage reached.
nlohmann::json limits_of(const SongOutcome& outcome, const Models& models) {
  const DeviceLimits limits = DeviceLimits::measure(models.options().machine.threads, models.options().machine.cpus);
  const auto fraction = [&](const WorkTotals& totals, DType dtype, double seconds) {
    return limits.seconds(totals.stored_bytes(), totals.flop(), dtype) / seconds;
  };
  nlohmann::json json = {{"read_gb_s", limits.read_bytes_s * 1e-9},
                         {"f32_gflop_s", limits.f32_flop_s * 1e-9},
                         {"bf16_gflop_s", limits.bf16_flop_s * 1e-9},
                         {"codec_fraction", fraction(models.codec_totals(), models.options().checkpoint.codec_dtype,
                                                     outcome.codec_seconds)}};
  if (outcome.new_frames > 0) {
    json["frames_fraction"] =
        fraction(models.lm_totals(), models.options().checkpoint.mula_dtype, outcome.frames_seconds);
  }
  return json;
}

nlohmann::json result_of(const SongOutcome& outcome, const SongOutput& output, const MemoryPlan& plan,
                         const std::optional<StopReason>& stop_reason, double total_seconds, const Models& models) {
  const double duration = output.duration_s();
  const double new_duration = static_cast<double>(outcome.new_frames) * kFrameSeconds;
  nlohmann::json seconds = {{"load", outcome.load_seconds}, {"codec", outcome.codec_seconds}, {"total", total_seconds}};
  nlohmann::json factor = {{"codec", outcome.codec_seconds / duration}, {"total", total_seconds / duration}};
  if (outcome.new_frames > 0) {
    seconds["frames"] = outcome.frames_seconds;
    factor["frames"] = outcome.frames_seconds / new_duration;
  }
  nlohmann::json result = {{"frames", outcome.frames},
                           {"duration_s", duration},
                           {"seconds", seconds},
                           {"real_time_factor", factor},
                           {"peak_memory_bytes", peak_memory_bytes()},
                           {"memory_plan", to_json(plan)},
                           {"sample_peak", output.meter().peak()},
                           {"rms", output.meter().rms()},
                           {"dropped_codes", outcome.dropped_codes},
                           {"warnings", warnings_of(output.meter(), outcome, models)},
                           {"device", models.device()},
                           {"version", HEARTMULA_VERSION}};
  const bool is_long = outcome.frames_seconds + outcome.codec_seconds > kWorthALimit;
  if (is_long) result["limits"] = limits_of(outcome, models);
  if (outcome.new_frames > 0) {
    result["overlap"] = {{"codec_threads", outcome.overlap_threads}, {"gain", outcome.overlap_gain}};
  }
  if (stop_reason) result["stop_reason"] = *stop_reason == StopReason::kEos ? "eos" : "length";
  return result;
}

// Of a song that was cancelled: its first `frames` frames are in the file `codes`.
nlohmann::json cancelled_result(int64_t frames, const std::string& codes, const MemoryPlan& plan, double total_seconds,
                                const Models& models) {
  return {{"frames", frames},
          {"duration_s", static_cast<double>(frames) * kFrameSeconds},
          {"stop_reason", "cancelled"},
          {"codes", codes},
          {"seconds", {{"total", total_seconds}}},
          {"peak_memory_bytes", peak_memory_bytes()},
          {"memory_plan", to_json(plan)},
          {"warnings", models.warnings()},
          {"device", models.device()},
          {"version", HEARTMULA_VERSION}};
}

// Whether the codes are the beginning of what `request` makes without them: then it goes on as if never interrupted.
bool is_beginning_of(const Codes& codes, const Request& request) {
  if (codes.request_json.empty() || request.continue_from_ms) return false;
  const Request r = parse_request(codes.request_json, request.load_codes);
  const auto settings = [](const Request& q) {
    return std::tie(q.model_path, q.version, q.lyrics, q.tags, q.seed, q.topk, q.temperature, q.cfg_scale,
                    q.mula_dtype);
  };
  return r.load_codes.empty() && settings(r) == settings(request);
}

// The frames that a song begins with.
std::vector<Frame> kept_frames(const Request& request, std::vector<Frame> frames, const LmConfig& config) {
  const auto stored = static_cast<int64_t>(frames.size());
  const int64_t keep = request.continue_from_ms ? *request.continue_from_ms / kFrameMs : stored;
  if (keep > stored) {
    throw user_error("--continue_from_ms is {}, but {} ends after {} ms", *request.continue_from_ms, request.load_codes,
                     stored * kFrameMs);
  }
  frames.resize(static_cast<size_t>(keep));
  check_codes(config, frames, request.load_codes);
  const int64_t most = request.max_audio_length_ms / kFrameMs + 1;
  if (keep > most) {
    throw user_error(
        "{} keeps {} ms, more than --max_audio_length_ms {} for the whole song; raise it, or use "
        "--continue_from_ms",
        request.load_codes, keep * kFrameMs, request.max_audio_length_ms);
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
[[noreturn]] void rethrow_with_codes(const std::string& codes, int64_t frames) {
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
  throw Error(kind, fmt::format("{}; {} frames ({:.1f} s) are in {}: go on with `heartmula generate --load_codes {}`, "
                                "or hear them with `heartmula decode {}`",
                                what, frames, static_cast<double>(frames) * kFrameSeconds, codes, shell_word(codes),
                                shell_word(codes)));
}

MemoryPlan checked_plan(Models& models, const Request& request, int64_t context, const SongFileHooks& hooks) {
  const std::optional<uint64_t> available = memory_info().available_bytes;
  const MemoryPlan plan = plan_memory(models, request.size(context));
  if (hooks.plan) hooks.plan(describe(plan, available));
  check_memory(plan, models.options().checkpoint, available);
  return plan;
}

ModelOptions model_options(const Request& request, const SongFileHooks& hooks) {
  return {.checkpoint = {request.model_path, request.version, request.mula_dtype, request.codec_dtype},
          .machine = {.lazy_load = request.lazy_load,
                      .threads = request.threads,
                      .cpus = request.cpus,
                      .mlock = request.mlock,
                      .overlap = request.overlap},
          .profile = hooks.profile};
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

AudioSink audio_sink(SongOutput& output, const SongFileHooks& hooks) {
  return [&](std::span<const float> left, std::span<const float> right) {
    output.write(left, right);
    if (hooks.audio) hooks.audio(left, right);
  };
}

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

nlohmann::json make_song_file(Request request, const SongFileHooks& hooks, const CancelToken* cancel) {
  const Clock::time_point start = Clock::now();
  validate(request);
  if (!request.seed) request.seed = random_seed();
  Models models(model_options(request, hooks), CheckpointParts::kAll, cancel);
  const Prompt prompt = make_prompt(models.tokenizer(), models.gen_config(), request.tags, request.lyrics);
  const int64_t context =
      required_context(models.lm_config(), prompt, request.frame_loop_settings(models.gen_config().audio_eos_id));
  std::vector<Frame> begin;
  std::string unfinished;  // codes of this very song from a run that was interrupted
  if (!request.load_codes.empty()) {
    Codes loaded = read_codes(request.load_codes);
    const bool is_beginning = is_beginning_of(loaded, request);
    begin = kept_frames(request, std::move(loaded.frames), models.lm_config());
    if (is_beginning) unfinished = std::exchange(request.load_codes, {});
  }
  SongOutput output(request, cancel);
  const MemoryPlan plan = checked_plan(models, request, context, hooks);

  const fs::path codes = codes_path(request, output.kind());
  if (output.kind() == OutputKind::kRegular) set_aside(codes, request, unfinished);
  CodesWriter writer(codes, to_json(request).dump(), begin);
  int64_t frames = 0;  // in the file of this run
  try {
    const SongHooks song_hooks = {
        .progress = progress_with_profile(hooks),
        .frame =
            [&](int64_t index, const Frame& frame) {
              writer.append(frame);
              frames = index + 1;
            },
        .audio = audio_sink(output, hooks),
    };
    const SongOutcome outcome = generate_song(models, request, prompt, begin, song_hooks, cancel);
    nlohmann::json json = {
        {"request", to_json(request)},
        {"result", result_of(outcome, output, plan, outcome.stop_reason, seconds_since(start), models)}};
    output.finish(request, json);
    std::error_code ignored;
    if (request.save_codes.empty() && !fs::equivalent(codes, request.load_codes, ignored)) {
      writer.remove();
    } else {
      writer.finish();
    }
    return json;
  } catch (const std::exception&) {
    std::string kept = unfinished;
    auto count = static_cast<int64_t>(begin.size());
    if (frames > 0) {
      kept = codes.string();
      count = frames;
    }
    if (kept.empty()) throw;
    try {
      if (frames > 0) writer.finish();
      if (cancel != nullptr && cancel->cancelled()) {
        const nlohmann::json json = {{"request", to_json(request)},
                                     {"result", cancelled_result(count, kept, plan, seconds_since(start), models)}};
        output.finish_cancelled(json);
        if (hooks.cancelled) hooks.cancelled(json);
      }
    } catch (const Error&) {  // why the song ended matters more, and the codes on the disk are whole
    }
    rethrow_with_codes(kept, count);
  }
}

nlohmann::json decode_song_file(Request request, const SongFileHooks& hooks, const CancelToken* cancel) {
  const Clock::time_point start = Clock::now();
  validate(request);
  if (!request.seed) request.seed = random_seed();
  const Codes codes = read_codes(request.load_codes);
  if (codes.frames.empty()) throw user_error("{}: holds no frames", request.load_codes);
  // So that `generate` makes the same song of this request: these frames and no other.
  request.max_audio_length_ms = (static_cast<int64_t>(codes.frames.size()) - 1) * kFrameMs;
  request.continue_from_ms.reset();
  request.save_codes.clear();
  Models models(model_options(request, hooks), CheckpointParts::kCodec, cancel);
  SongOutput output(request, cancel);
  const MemoryPlan plan = checked_plan(models, request, 0, hooks);
  const SongHooks song_hooks = {
      .progress = progress_with_profile(hooks),
      .frame = {},
      .audio = audio_sink(output, hooks),
  };
  const SongOutcome outcome = decode_song(models, request, codes.frames, song_hooks);
  nlohmann::json json = {{"request", to_json(request)},
                         {"result", result_of(outcome, output, plan, std::nullopt, seconds_since(start), models)}};
  output.finish(request, json);
  return json;
}

}  // namespace heartmula
