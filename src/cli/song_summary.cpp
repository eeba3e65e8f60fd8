#include "cli/song_summary.h"

#include <fmt/format.h>

#include <cstdint>
#include <nlohmann/json.hpp>

namespace heartmula {
namespace {

double megabytes(const nlohmann::json& bytes) {
  return bytes.get<double>() * 1e-6;
}

}  // namespace

std::string song_summary(const nlohmann::json& json) {
  const nlohmann::json& request = json["request"];
  const nlohmann::json& result = json["result"];
  const nlohmann::json& seconds = result["seconds"];
  const nlohmann::json& factor = result["real_time_factor"];
  std::string text =
      fmt::format("{}: {:.2f} s of music, {} frames, seed {}", request["save_path"].get<std::string>(),
                  result["duration_s"].get<double>(), result["frames"].get<int64_t>(), request["seed"].get<uint64_t>());
  if (result.contains("stop_reason")) {
    const bool eos = result["stop_reason"] == "eos";
    text += eos ? ", ended by the model" : ", ended by --max_audio_length_ms";
  }
  text += fmt::format("\n  load {:.1f} s", seconds["load"].get<double>());
  if (seconds.contains("frames")) {
    text += fmt::format(", frames {:.1f} s (real-time factor {:.2f})", seconds["frames"].get<double>(),
                        factor["frames"].get<double>());
  }
  text += fmt::format(", codec {:.1f} s ({:.2f}), in all {:.1f} s ({:.2f}), on {}", seconds["codec"].get<double>(),
                      factor["codec"].get<double>(), seconds["total"].get<double>(), factor["total"].get<double>(),
                      result["device"].get<std::string>());
  if (result.contains("limits")) {
    const nlohmann::json& limits = result["limits"];
    text += fmt::format("\n  of the machine's limit ({:.1f} GB/s; {:.0f} GFLOP/s in f32, {:.0f} in bf16):",
                        limits["read_gb_s"].get<double>(), limits["f32_gflop_s"].get<double>(),
                        limits["bf16_gflop_s"].get<double>());
    if (limits.contains("frames_fraction"))
      text += fmt::format(" frames {:.0f} %,", 100 * limits["frames_fraction"].get<double>());
    text += fmt::format(" codec {:.0f} %", 100 * limits["codec_fraction"].get<double>());
  }
  if (result.contains("overlap") && result["overlap"]["codec_threads"] > 0) {
    text += fmt::format("\n  the codec had {} of the threads beside the frame loop",
                        result["overlap"]["codec_threads"].get<int>());
    const double gain = result["overlap"]["gain"];
    if (gain > 1) text += fmt::format(" ({:.2f} times as fast as one after the other while both ran)", gain);
  }
  text += fmt::format("\n  peak memory {:.0f} MB (planned {:.0f} MB), level peak {:.3f}, rms {:.4f}",
                      megabytes(result["peak_memory_bytes"]), megabytes(result["memory_plan"]["peak_bytes"]),
                      result["sample_peak"].get<double>(), result["rms"].get<double>());
  for (const nlohmann::json& warning : result["warnings"]) {
    text += fmt::format("\n  warning: {}", warning.get<std::string>());
  }
  return text;
}

}  // namespace heartmula
