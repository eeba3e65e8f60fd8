#include "measure/compare.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "audio/audio_reader.h"
#include "audio/meters.h"
#include "base/cpu_choice.h"
#include "base/error.h"
#include "base/file_kind.h"
#include "base/input.h"
#include "base/thread_pool.h"
#include "measure/audio_distances.h"
#include "measure/code_distances.h"
#include "measure/loudness.h"
#include "song/codes_file.h"

namespace heartmula {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

// A safetensors file begins with the length of its header, eight bytes, and the header with a brace.
bool is_safetensors(const InputBytes& file) {
  constexpr size_t kLengthBytes = 8;
  return file.path().extension() == ".safetensors" ||
         (file.bytes().size() > kLengthBytes && file.bytes()[kLengthBytes] == std::byte{'{'});
}

json finite_or_null(double value) {
  return std::isfinite(value) ? json(value) : json(nullptr);
}

json audio_json(const std::string& name, const Audio& audio, double loudness) {
  LevelMeter meter;
  for (const std::vector<float>& samples : audio.channels) meter.add(samples);
  return {{"file", name},
          {"frames", audio.frames()},
          {"duration_s", audio.duration_s()},
          {"rate_hz", audio.rate_hz},
          {"channels", audio.channels.size()},
          {"loudness_lufs", finite_or_null(loudness)},
          {"sample_peak", meter.peak()},
          {"rms", meter.rms()}};
}

json compare_audio(const InputBytes& a, const InputBytes& b) {
  ThreadPool pool(choose_cpus(cpu_topology(), threads_from_environment(), "").threads);
  const std::array<const InputBytes*, 2> inputs = {&a, &b};
  std::array<Audio, 2> audio;
  std::array<double, 2> loudness = {};
  pool.parallel_for(2, [&](int64_t chunk, int) {
    const auto i = static_cast<size_t>(chunk);
    audio[i] = read_audio(*inputs[i]);
    loudness[i] = integrated_loudness(audio[i]);
  });
  const AudioDistances distances = audio_distances(audio[1], audio[0], b.name(), a.name(), pool);
  json windows = json::array();
  for (const SpectralDistance& spectral : distances.spectral) {
    windows.push_back({{"window", spectral.window},
                       {"log_magnitude", spectral.log_magnitude},
                       {"spectral_convergence", spectral.convergence}});
  }
  json result = {
      {"kind", "audio"},
      {"a", audio_json(a.name(), audio[0], loudness[0])},
      {"b", audio_json(b.name(), audio[1], loudness[1])},
      {"compared",
       {{"frames", distances.frames},
        {"duration_s", static_cast<double>(distances.frames) / audio[0].rate_hz},
        {"channels", distances.channels}}},
      {"identical", distances.identical},
      {"log_mel_db", distances.log_mel_db},
      {"log_magnitude", distances.log_magnitude()},
      {"spectral_convergence", distances.convergence()},
      {"windows", windows},
      {"envelope_db", distances.envelope_db},
  };
  if (distances.si_sdr_db) result["si_sdr_db"] = finite_or_null(*distances.si_sdr_db);
  if (distances.envelope_correlation) result["envelope_correlation"] = *distances.envelope_correlation;
  if (std::isfinite(loudness[0]) && std::isfinite(loudness[1])) {
    result["loudness_difference_lu"] = loudness[1] - loudness[0];
  }
  return result;
}

json codes_json(const Codes& codes) {
  return {{"file", codes.name},
          {"frames", codes.frames.size()},
          {"duration_s", 1e-3 * kFrameMs * static_cast<double>(codes.frames.size())}};
}

Codes codes_of(const InputBytes& input) {
  return input.is_stream() ? parse_codes(input.bytes(), input.name()) : read_codes(input.path());
}

json compare_codes(const InputBytes& a, const InputBytes& b) {
  const Codes codes_a = codes_of(a);
  const Codes codes_b = codes_of(b);
  const CodeDistances distances = code_distances(codes_a.frames, codes_b.frames);
  json result = {{"kind", "codes"},
                 {"a", codes_json(codes_a)},
                 {"b", codes_json(codes_b)},
                 {"compared", {{"frames", distances.frames}}},
                 {"identical", !distances.first_difference.has_value()},
                 {"equal_frames", distances.equal_frames}};
  if (distances.first_difference) result["first_difference"] = *distances.first_difference;
  if (distances.frames > 0) {
    json percent = json::array();
    for (const int64_t equal : distances.equal_codes) {
      percent.push_back(100 * static_cast<double>(equal) / static_cast<double>(distances.frames));
    }
    result["equal_codes_percent"] = percent;
  }
  return result;
}

double decibels(double amplitude) {
  return 20 * std::log10(amplitude);
}

double or_infinity(const json& value, double infinity) {
  return value.is_null() ? infinity : value.get<double>();
}

std::string name_line(const json& side, const char* letter) {
  return fmt::format("{}: {}\n", letter, escaped(side["file"].get<std::string>()));
}

std::string describe_audio(const json& c) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const json& a = c["a"];
  const json& b = c["b"];
  std::string text =
      name_line(a, "A") + name_line(b, "B") + fmt::format("{:<22}{:>10}{:>10}{:>10}\n", "", "A", "B", "B - A");
  const auto row = [&](const char* name, double value_a, double value_b, int digits) {
    const double difference = value_b - value_a;
    text += fmt::format("{:<22}{:>10.{}f}{:>10.{}f}", name, value_a, digits, value_b, digits);
    text += std::isfinite(difference) ? fmt::format("{:>+10.{}f}\n", difference, digits) : fmt::format("{:>10}\n", "-");
  };
  const auto number = [](const json& side, const char* field) { return side[field].get<double>(); };
  row("length, s", number(a, "duration_s"), number(b, "duration_s"), 3);
  row("loudness, LUFS", or_infinity(a["loudness_lufs"], -kInfinity), or_infinity(b["loudness_lufs"], -kInfinity), 2);
  row("sample peak, dB", decibels(number(a, "sample_peak")), decibels(number(b, "sample_peak")), 2);
  row("RMS, dB", decibels(number(a, "rms")), decibels(number(b, "rms")), 2);

  const int64_t channels = c["compared"]["channels"];
  text += fmt::format("compared: {:.3f} s, {} Hz, {}", number(c["compared"], "duration_s"), a["rate_hz"].get<int>(),
                      channels == 1 ? "mono" : "stereo");
  if (a["frames"] != b["frames"]) {
    text += fmt::format("; {} goes on after that", a["frames"] > b["frames"] ? "A" : "B");
  }
  if (a["channels"] != b["channels"]) {
    text += fmt::format("; {} is stereo and was mixed down", a["channels"] > b["channels"] ? "A" : "B");
  }
  text += '\n';
  const auto figure = [&](const char* name, const std::string& value, const char* meaning) {
    text += fmt::format("{:<22}{:>10}  {}\n", name, value, meaning);
  };
  const auto fixed = [](double value, int digits) { return fmt::format("{:.{}f}", value, digits); };
  figure("log-mel distance", fixed(number(c, "log_mel_db"), 3), "dB");
  std::string log_magnitudes;
  std::string convergences;
  for (const json& window : c["windows"]) {
    const int64_t size = window["window"];
    log_magnitudes += fmt::format("  {}: {:.4f}", size, number(window, "log_magnitude"));
    convergences += fmt::format("  {}: {:.4f}", size, number(window, "spectral_convergence"));
  }
  figure("log-magnitude L1", fixed(number(c, "log_magnitude"), 4), ("by window" + log_magnitudes).c_str());
  figure("spectral convergence", fixed(number(c, "spectral_convergence"), 4), ("by window" + convergences).c_str());
  figure("SI-SDR", c.contains("si_sdr_db") ? fixed(or_infinity(c["si_sdr_db"], kInfinity), 2) : "-", "dB");
  figure("envelope distance", fixed(number(c, "envelope_db"), 3), "dB, of 80 ms, not below -60 dB");
  figure("envelope correlation", c.contains("envelope_correlation") ? fixed(number(c, "envelope_correlation"), 4) : "-",
         "");
  while (text.ends_with(" \n")) text.erase(text.size() - 2, 1);
  if (c["identical"].get<bool>()) text += "every sample is the same\n";
  return text;
}

std::string describe_codes(const json& c) {
  std::string text;
  for (const auto& [side, letter] : {std::pair("a", "A"), std::pair("b", "B")}) {
    text += fmt::format("{}: {}, {} frames, {:.2f} s\n", letter, escaped(c[side]["file"].get<std::string>()),
                        c[side]["frames"].get<int64_t>(), c[side]["duration_s"].get<double>());
  }
  const int64_t frames = c["compared"]["frames"];
  if (c["identical"].get<bool>()) return text + "every code is the same\n";
  const int64_t first = c["first_difference"];
  text += fmt::format("{:<22}{:>10}  at {:.2f} s\n", "first difference", fmt::format("frame {}", first),
                      1e-3 * kFrameMs * static_cast<double>(first));
  text += fmt::format("{:<22}{:>10}  of {} that both have\n", "equal frames", c["equal_frames"].get<int64_t>(), frames);
  if (!c.contains("equal_codes_percent")) return text;
  text += fmt::format("{:<22}", "codebook");
  for (int64_t codebook = 0; codebook < kCodebooks; ++codebook) text += fmt::format("{:>8}", codebook);
  text += fmt::format("\n{:<22}", "equal codes, %");
  for (const json& percent : c["equal_codes_percent"]) text += fmt::format("{:>8.2f}", percent.get<double>());
  return text + "\n";
}

}  // namespace

json compare_files(const fs::path& a, const fs::path& b) {
  refuse_unfinished_download(a);
  refuse_unfinished_download(b);
  const InputBytes input_a(a);
  const InputBytes input_b(b);
  const bool codes_a = is_safetensors(input_a);
  const bool codes_b = is_safetensors(input_b);
  if (codes_a != codes_b) {
    throw user_error("{} is a codes file and {} is not: compare two of a kind; `heartmula decode` makes audio of codes",
                     (codes_a ? input_a : input_b).name(), (codes_a ? input_b : input_a).name());
  }
  return codes_a ? compare_codes(input_a, input_b) : compare_audio(input_a, input_b);
}

std::string describe_comparison(const json& comparison) {
  return comparison["kind"] == "codes" ? describe_codes(comparison) : describe_audio(comparison);
}

}  // namespace heartmula
