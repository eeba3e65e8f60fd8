#include "cli/song_summary.h"

#include <fmt/format.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/message.h"
#include "cli/progress.h"

namespace heartmula {
namespace {

std::string megabytes(const nlohmann::json& bytes) {
  return bytes.is_null() ? "unknown" : fmt::format("{:.0f} MB", bytes.get<double>() * 1e-6);
}

// "4570.0 GB/s; 51000 GFLOP/s in f32, 790000 in bf16"
std::string peaks_text(const nlohmann::json& limits) {
  std::string text = fmt::format("{:.1f} GB/s", limits["read_gb_s"].get<double>());
  if (limits.contains("f32_gflop_s"))
    text += fmt::format("; {:.0f} GFLOP/s in f32", limits["f32_gflop_s"].get<double>());
  if (limits.contains("bf16_gflop_s")) text += fmt::format(", {:.0f} in bf16", limits["bf16_gflop_s"].get<double>());
  return text;
}

std::string limits_text(const nlohmann::json& limits) {
  std::string peaks = peaks_text(limits);
  if (limits.contains("codec")) peaks += "; codec " + peaks_text(limits["codec"]);
  std::string reached;
  for (const auto& [field, name] : {std::pair("frames_fraction", "frames"), std::pair("codec_fraction", "codec")}) {
    if (!limits.contains(field)) continue;
    reached += fmt::format("{} {} {:.0f} %", reached.empty() ? "" : ",", name, 100 * limits[field].get<double>());
  }
  if (reached.empty()) return fmt::format("\n  the machine's limit: {}", peaks);
  return fmt::format("\n  of the machine's limit ({}):{}", peaks, reached);
}

std::string model_name(const nlohmann::json& model) {
  std::string name = escaped(model["name"].get<std::string>());
  if (model.contains("lora")) name += fmt::format(" with {}", model["lora"].dump());
  return fmt::format("{} ({})", name, model["fingerprint"].get<std::string>());
}

}  // namespace

std::string song_line(const nlohmann::json& json) {
  const nlohmann::json& request = json["request"];
  const nlohmann::json& result = json["result"];
  std::string text =
      fmt::format("{}: {:.2f} s of music, {} frames, seed {}", escaped(request["save_path"].get<std::string>()),
                  result["duration_s"].get<double>(), result["frames"].get<int64_t>(), request["seed"].get<uint64_t>());
  if (result.contains("stop_reason")) {
    const bool eos = result["stop_reason"] == "eos";
    text += eos ? ", ended by the model" : ", ended by --max_audio_length_ms";
  }
  if (result.contains("level") && result["level"] != "G0") {
    text += ", level " + result["level"].get<std::string>();
    if (request["lossy"] != "none") text += fmt::format(" (--lossy {})", request["lossy"].get<std::string>());
    if (const auto layers = request["skip_layers"].get<int64_t>(); layers > 0) {
      text += fmt::format(" (--skip_layers {})", layers);
    }
  }
  return text;
}

std::string song_summary(const nlohmann::json& json) {
  const nlohmann::json& result = json["result"];
  const nlohmann::json& seconds = result["seconds"];
  const nlohmann::json& factor = result["real_time_factor"];
  std::string text = song_line(json);
  const auto duration = [&](const char* stage) { return duration_text(seconds[stage].get<double>()); };
  text += "\n  load " + duration("load");
  if (seconds.contains("frames")) {
    text += fmt::format(", frames {} (real-time factor {:.2f})", duration("frames"), factor["frames"].get<double>());
  }
  text +=
      fmt::format(", codec {} ({:.2f}), in all {} ({:.2f}), on {}", duration("codec"), factor["codec"].get<double>(),
                  duration("total"), factor["total"].get<double>(), result["device"].get<std::string>());
  if (result.contains("playback")) {
    const nlohmann::json& playback = result["playback"];
    text += "\n  first sound after " + duration_text(playback["first_audio_s"].get<double>());
    const double waited = playback["waited_s"];
    if (waited > 0) text += fmt::format("; playing from there would have waited {} for more", duration_text(waited));
  }
  if (result.contains("limits")) text += limits_text(result["limits"]);
  if (result.contains("overlap") && result["overlap"]["codec_threads"].is_number() &&
      result["overlap"]["codec_threads"] > 0) {
    text += fmt::format("\n  the codec had {} of the threads beside the frame loop",
                        result["overlap"]["codec_threads"].get<int>());
    const double gain = result["overlap"]["gain"];
    if (gain > 1) text += fmt::format(" ({:.2f} times as fast as one after the other while both ran)", gain);
  }
  if (result.contains("drafts") && result["drafts"]["drafted_steps"] > 0) {
    const nlohmann::json& drafts = result["drafts"];
    text += fmt::format(
        "\n  drafts ({}): {} of {} guessed frames stood; {} of {} steps were drafted; {:.2f} of the weights "
        "were read that plain decoding reads, without the drafter's own",
        drafts["drafter"].get<std::string>(), drafts["accepted_frames"].get<int64_t>(),
        drafts["drafted_frames"].get<int64_t>(), drafts["drafted_steps"].get<int64_t>(),
        drafts["drafted_steps"].get<int64_t>() + drafts["plain_steps"].get<int64_t>(),
        drafts["weights_read"].get<double>());
  }
  text += fmt::format("\n  peak memory {} (planned {}), level peak {:.3f}, rms {:.4f}",
                      megabytes(result["peak_memory_bytes"]), megabytes(result["memory_plan"]["peak_bytes"]),
                      result["sample_peak"].get<double>(), result["rms"].get<double>());
  if (result["checkpoint"].contains("language_model")) {
    text += "\n  language model " + model_name(result["checkpoint"]["language_model"]);
  }
  text += "\n  codec " + model_name(result["checkpoint"]["codec"]);
  for (const nlohmann::json& warning : result["warnings"]) {
    text += fmt::format("\n  warning: {}", escaped(warning.get<std::string>()));
  }
  return text;
}

}  // namespace heartmula
