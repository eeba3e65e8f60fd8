#include "song/song_result.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "base/cpu_info.h"
#include "base/message.h"
#include "tensor/fingerprint.h"

namespace heartmula {
namespace {

constexpr double kWorthALimit = 10;  // seconds of work; measuring the machine takes half of one

std::vector<std::string> warnings_of(const LevelMeter& meter, const SongOutcome& outcome, const Models& models,
                                     const std::vector<std::string>& notes) {
  std::vector<std::string> warnings;
  if (meter.silent()) warnings.emplace_back("silence: no sample is louder than -60 dB of full scale");
  if (meter.clipped() > 0) warnings.push_back(fmt::format("clipping: {} samples beyond full scale", meter.clipped()));
  if (outcome.dropped_codes > 0) {
    warnings.push_back(fmt::format("{} codes have no entry in the codec and were dropped", outcome.dropped_codes));
  }
  for (const std::string& warning : warnings) spdlog::warn(warning);
  // These were told when they were found.
  warnings.insert(warnings.begin(), notes.begin(), notes.end());
  warnings.insert(warnings.begin(), models.warnings().begin(), models.warnings().end());
  return warnings;
}

nlohmann::json to_json(const DeviceLimits& limits) {
  nlohmann::json json = {{"read_gb_s", limits.read_bytes_s * 1e-9}};
  if (limits.f32_flop_s > 0) json["f32_gflop_s"] = limits.f32_flop_s * 1e-9;
  if (limits.bf16_flop_s > 0) json["bf16_gflop_s"] = limits.bf16_flop_s * 1e-9;
  return json;
}

// What the machine could do at most, and which part of that each stage reached, where that is known.
nlohmann::json limits_of(const SongOutcome& outcome, const Models& models) {
  const ModelOptions& options = models.options();
  const StageDevices& devices = models.devices();
  const bool has_frames = outcome.new_frames > 0;
  const DeviceLimits limits = DeviceLimits::measure(has_frames ? devices.lm : devices.codec, options.machine);
  const bool same = !has_frames || devices.lm == devices.codec;
  const DeviceLimits codec_limits = same ? limits : DeviceLimits::measure(devices.codec, options.machine);
  nlohmann::json json = to_json(limits);
  if (!same) json["codec"] = to_json(codec_limits);
  const auto add = [&json](const char* name, const DeviceLimits& of, const WorkTotals& totals, DType dtype,
                           double seconds) {
    const double least = of.seconds(totals.stored_bytes(), totals.flop(), dtype);
    if (least > 0) json[name] = least / seconds;
  };
  add("codec_fraction", codec_limits, models.codec_totals(), options.checkpoint.codec_dtype, outcome.codec_seconds);
  if (has_frames) {
    add("frames_fraction", limits, models.lm_totals(), options.checkpoint.mula_dtype, outcome.frames_seconds);
  }
  return json;
}

// Null where the system does not say.
nlohmann::json known_peak() {
  const uint64_t bytes = peak_memory_bytes();
  return bytes == 0 ? nlohmann::json() : nlohmann::json(bytes);
}

nlohmann::json to_json(const ModelIdentity& model) {
  nlohmann::json json = {{"name", escaped(model.name)}, {"fingerprint", model.fingerprint}};
  if (!model.lora.empty()) json["lora"] = model.lora;
  return json;
}

}  // namespace

nlohmann::json result_of(const SongSettings& song, const SongOutcome& outcome, const SongOutput& output,
                         const MemoryPlan& plan, const std::optional<StopReason>& stop_reason, double total_seconds,
                         Models& models, const std::vector<std::string>& notes, bool was_alone) {
  const MachineSettings& machine = models.options().machine;
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
                           {"peak_memory_bytes", known_peak()},
                           {"memory_plan", to_json(plan)},
                           {"sample_peak", output.meter().peak()},
                           {"rms", output.meter().rms()},
                           {"dropped_codes", outcome.dropped_codes},
                           {"warnings", warnings_of(output.meter(), outcome, models, notes)},
                           {"device", models.device()},
                           {"devices", models.stage_devices()},
                           {"version", HEARTMULA_VERSION}};
  if (const std::optional<double> first = output.playback().first_audio_s()) {
    result["playback"] = {{"first_audio_s", *first}, {"waited_s", output.playback().waited_s()}};
  }
  const bool is_long = outcome.frames_seconds + outcome.codec_seconds > kWorthALimit;
  if (was_alone && is_long) result["limits"] = limits_of(outcome, models);
  if (outcome.new_frames > 0) {
    result["overlap"] = {{"codec_threads", nullptr}, {"gain", outcome.overlap_gain}};
    if (outcome.overlap_threads) result["overlap"]["codec_threads"] = *outcome.overlap_threads;
  }
  if (outcome.new_frames > 0 && machine.drafter != "none") {
    const DraftCounts& drafts = outcome.drafts;
    result["drafts"] = {{"drafter", machine.drafter},
                        {"plain_steps", drafts.plain_steps},
                        {"drafted_steps", drafts.drafted_steps},
                        {"frames_of_drafted_steps", drafts.frames},
                        {"drafted_frames", drafts.drafted_frames},
                        {"accepted_frames", drafts.accepted_frames},
                        {"depth_passes", drafts.depth_passes},
                        {"heads", drafts.heads},
                        {"guessed_codes", drafts.guessed_codes},
                        {"weights_read", drafts.weights_read(FrameWeights::of(models.lm_config()))},
                        {"trials", drafts.trials}};
    if (const DraftFile* file = models.draft_file()) result["drafts"]["fingerprint"] = fingerprint("{}", file->store);
  }
  if (outcome.passages > 1) result["passages"] = outcome.passages;
  if (outcome.rests > 0) result["rests"] = outcome.rests;
  if (outcome.new_frames > 0) {
    const bool is_faithful = song.frame_loop(0).min_frames() <= 1 && song.lossy == LossyAcceptance::kNone &&
                             outcome.passages == 1 && models.options().checkpoint.skip_layers == 0;
    const bool is_plain = song.verification == GuessVerification::kCoupled;
    result["level"] = !is_faithful ? "G2" : (is_plain ? "G0" : "G1");
  }
  result["checkpoint"] = {{"codec", to_json(models.codec_identity())}};
  if (outcome.new_frames > 0) result["checkpoint"]["language_model"] = to_json(models.lm_identity());
  if (stop_reason) result["stop_reason"] = *stop_reason == StopReason::kEos ? "eos" : "length";
  return result;
}

nlohmann::json cancelled_result(int64_t frames, const std::string& codes, const MemoryPlan& plan, double total_seconds,
                                const Models& models, const std::vector<std::string>& notes) {
  std::vector<std::string> warnings = models.warnings();
  warnings.insert(warnings.end(), notes.begin(), notes.end());
  return {{"frames", frames},
          {"duration_s", static_cast<double>(frames) * kFrameSeconds},
          {"stop_reason", "cancelled"},
          {"codes", codes},
          {"seconds", {{"total", total_seconds}}},
          {"peak_memory_bytes", known_peak()},
          {"memory_plan", to_json(plan)},
          {"warnings", warnings},
          {"device", models.device()},
          {"version", HEARTMULA_VERSION}};
}

}  // namespace heartmula
