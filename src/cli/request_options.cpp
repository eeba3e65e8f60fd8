#include "cli/request_options.h"

#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "base/error.h"
#include "base/same_file.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "measure/song_picture.h"
#include "song/codes_file.h"
#include "text/text_source.h"

namespace heartmula {
namespace {

// heartlib's defaults lie in ./assets; where there is no such folder a song goes into the current one.
std::string asset_path(const std::string& name) {
  return std::filesystem::is_directory("assets") ? "./assets/" + name : name;
}

std::string text_or_file(const char* flag, const std::optional<std::string>& value,
                         const std::optional<std::string>& literal, const std::string& default_file) {
  if (literal) return *literal;
  if (value) return read_text_argument(std::string("--") + flag, *value);
  if (std::filesystem::is_regular_file(default_file)) {
    return read_text_argument(std::string("--") + flag, default_file);
  }
  throw user_error("--{} is missing: a file or the text itself{}", flag,
                   std::string(flag) == "lyrics" ? "; --lyrics_text \"\" makes an instrumental song" : "");
}

void check_device(const char* flag, const std::optional<std::string>& device) {
  if (device && *device != "cpu") throw user_error("--{} {}: this build has one device, cpu", flag, *device);
}

// heartlib's spellings of yes; the rest of its words are no.
bool parse_bool(const char* flag, const std::string& word) {
  std::string lower = word;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto is_one_of = [&](std::initializer_list<const char*> words) {
    return std::find(words.begin(), words.end(), lower) != words.end();
  };
  if (is_one_of({"yes", "y", "true", "t", "1", "on"})) return true;
  if (is_one_of({"no", "n", "false", "f", "0", "off"})) return false;
  throw user_error("--{} {}: must be true or false", flag, word);
}

std::optional<uint64_t> parse_seed(const std::string& text) {
  if (text == "-1") return std::nullopt;
  uint64_t seed = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw user_error("--seed {}: must be an integer from 0 to 2^64 - 1, or -1 for a random one", text);
  }
  return seed;
}

// CLI11 takes an empty value for one that was not given.
std::string check_not_empty(const std::string& value) {
  return value.empty() ? "a value is missing" : "";
}

template <typename Target>
CLI::Option* add_option(CLI::App& command, const char* flags, Target& target, const char* help) {
  CLI::Option* option = command.add_option(both_spellings(flags), target, help);
  if constexpr (!std::is_same_v<Target, std::optional<std::string>> && !std::is_same_v<Target, std::string>) {
    option->check(check_not_empty);
  }
  return option;
}

template <typename T>
void assign(T& target, const std::optional<T>& value) {
  if (value) target = *value;
}

double megabytes(const nlohmann::json& bytes) {
  return bytes.get<double>() * 1e-6;
}

void check_other_file(const char* flag, const std::string& path,
                      std::initializer_list<std::pair<const char*, std::string>> others) {
  for (const auto& [other, other_path] : others) {
    if (same_file(path, other_path)) {
      throw user_error("{} and {} are the same file: {}", flag, other, path);
    }
  }
}

/// The song is on the disk by now: it is not lost with its picture. An error, for no --progress hides those.
void write_picture(SongPicture& picture) {
  try {
    picture.write();
  } catch (const std::exception& error) {
    spdlog::error("--spectrogram: {}", error.what());
  }
}

void print_summary(const nlohmann::json& json) {
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
  std::fprintf(stderr, "%s\n", text.c_str());
}

}  // namespace

void RequestOptions::add_checkpoint(CLI::App& command) {
  const auto option = [&](const char* flags, auto& target, const char* help) {
    return add_option(command, flags, target, help);
  };
  option("--model_path", model_path, "Folder with the checkpoint: HeartMuLa-oss-3B/, HeartCodec-oss/, tokenizer.json");
  option("--threads", threads, kThreadsHelp);
  option("--cpus", cpus, kCpusHelp);
  command.add_flag("--mlock", mlock, "Lock the weights in memory, so that the system never takes them out");
  option("--request", request_file, "Take every setting from this JSON (a song's sidecar); other flags stand over it");
}

void RequestOptions::add_song(CLI::App& command) {
  const auto option = [&](const char* flags, auto& target, const char* help) {
    return add_option(command, flags, target, help);
  };
  option("--version", version, "Size of the language model: HeartMuLa-oss-VERSION (3B)");
  option("--lyrics", lyrics, "A file, or the lyrics themselves (./assets/lyrics.txt)");
  option("--lyrics_text", lyrics_text, "The lyrics themselves, whatever they look like; \"\" is instrumental");
  option("--tags", tags, "A file, or the tags themselves: \"piano,happy\" (./assets/tags.txt)");
  option("--tags_text", tags_text, "The tags themselves, whatever they look like");
  option("--title", title, "Title, for the audio file's tags");
  option("--max_audio_length_ms", max_audio_length_ms, "Longest song in milliseconds (240000)");
  option("--topk", topk, "Sample among this many likeliest codes (50)");
  option("--temperature", temperature, "Above 1 wilder, below 1 tamer (1.0)");
  option("--cfg_scale", cfg_scale, "How closely to follow lyrics and tags; 1 is off (1.5)");
  option("--seed", seed, "Same seed, same song; -1 is random (-1)");
  option("--mula_device", mula_device, "cpu is what this build has");
  option("--mula_dtype", mula_dtype, "Weights of the language model: bfloat16 (bf16) or float32 (fp32) (bfloat16)");
  option("--lazy_load", lazy_load, "One model in memory at a time: true or false (false)")->expected(0, 1);
  option("--overlap", overlap, "The codec beside the frame loop: auto, off, or how many threads it gets (auto)");
  option("--save_codes", save_codes, "Keep the codes in this file for good");
  option("--load_codes", load_codes, "Go on from the codes in this file, with its settings unless others are given");
  option("--continue_from_ms", continue_from_ms, "How much of --load_codes to keep, in milliseconds (all)");
}

void RequestOptions::add_codec(CLI::App& command) {
  const auto option = [&](const char* flags, auto& target, const char* help) {
    return add_option(command, flags, target, help);
  };
  option("--codec_device", codec_device, "cpu is what this build has");
  option("--codec_dtype", codec_dtype, "Weights of the codec: float32 (fp32) or bfloat16 (bf16) (float32)");
  option("--codec_steps", codec_steps, "Euler steps of the codec's flow (10)");
  option("--codec_guidance_scale", codec_guidance_scale, "Guidance of the codec's flow; 1 is off (1.25)");
  command.add_flag("--compat", compat, "Reproduce heartlib's fault of losing the last 4.16 s of some lengths");
}

void RequestOptions::add_output(CLI::App& command) {
  const auto option = [&](const char* flags, auto& target, const char* help) {
    return add_option(command, flags, target, help);
  };
  option("--save_path", save_path, "Where the song goes (./assets/output.mp3, or output.mp3)");
  option("--format", format, "wav, flac, ogg or mp3; by default by the extension of --save_path");
  option("--sample_format", sample_format, "s16, s24 or f32, of WAV and FLAC (s16)");
  option("--progress", progress, "auto, bar, lines, json or none, on standard error (auto)");
  command.add_option("--profile", profile, "Write a trace of every operation here, for Perfetto")
      ->check(check_not_empty);
  command.add_option("--spectrogram", spectrogram, "Draw the song's wave and spectrogram here, a PNG picture")
      ->check(check_not_empty);
  command.add_flag("--json", json, "Print the song's JSON on standard output instead of a summary");
}

Request RequestOptions::resolve(CheckpointParts parts) const {
  const ProgressMode mode = parse_progress_mode(progress);
  if (mode == ProgressMode::kNone || mode == ProgressMode::kJson) spdlog::set_level(spdlog::level::err);
  Request r;
  r.save_path = asset_path("output.mp3");
  bool has_texts = false;
  if (request_file) {
    r = read_request(*request_file, std::move(r));
    has_texts = true;
  } else if (load_codes) {
    const std::string stored = read_codes(*load_codes).request_json;
    if (!stored.empty()) {
      r = parse_request(stored, *load_codes, std::move(r));
      has_texts = true;
    }
    r.continue_from_ms.reset();
  }
  check_device("mula_device", mula_device);
  check_device("codec_device", codec_device);
  assign(r.model_path, model_path);
  assign(r.version, version);
  assign(r.title, title);
  assign(r.max_audio_length_ms, max_audio_length_ms);
  assign(r.topk, topk);
  assign(r.temperature, temperature);
  assign(r.cfg_scale, cfg_scale);
  assign(r.codec_steps, codec_steps);
  assign(r.codec_guidance_scale, codec_guidance_scale);
  assign(r.save_path, save_path);
  assign(r.save_codes, save_codes);
  assign(r.load_codes, load_codes);
  assign(r.threads, threads);
  assign(r.cpus, cpus);
  if (continue_from_ms) r.continue_from_ms = continue_from_ms;
  if (seed) r.seed = parse_seed(*seed);
  if (mula_dtype) r.mula_dtype = parse_weight_dtype("mula_dtype", *mula_dtype);
  if (codec_dtype) r.codec_dtype = parse_weight_dtype("codec_dtype", *codec_dtype);
  if (format) r.format = parse_audio_format(*format);
  if (sample_format) r.sample_format = parse_sample_format(*sample_format);
  if (lazy_load) r.lazy_load = lazy_load->empty() || parse_bool("lazy_load", *lazy_load);
  if (overlap) r.overlap = parse_overlap(*overlap);
  if (compat) r.compat = true;
  if (mlock) r.mlock = true;
  for (const auto& [flag, path] : {std::pair("--lyrics", lyrics), std::pair("--tags", tags)}) {
    if (path && same_file(*path, r.save_path)) {
      throw user_error("{} and --save_path are the same file: {}", flag, *path);
    }
  }
  if (parts == CheckpointParts::kAll) {
    if (!has_texts || lyrics || lyrics_text)
      r.lyrics = text_or_file("lyrics", lyrics, lyrics_text, "./assets/lyrics.txt");
    if (!has_texts || tags || tags_text) r.tags = text_or_file("tags", tags, tags_text, "./assets/tags.txt");
  }
  return r;
}

int run_song_command(const RequestOptions& options, CheckpointParts parts,
                     nlohmann::json (*make)(Request, const SongFileHooks&, const CancelToken*)) {
  watch_signals();
  const Request request = options.resolve(parts);
  if (options.json && std::filesystem::path(request.save_path).lexically_normal() == "/dev/stdout") {
    throw user_error("--json prints on standard output, and --save_path /dev/stdout puts the song there: choose one");
  }
  ProgressReporter reporter(parse_progress_mode(options.progress));
  const bool silent = reporter.mode() == ProgressMode::kNone || reporter.mode() == ProgressMode::kJson;
  std::optional<Profile> profile;
  if (!options.profile.empty()) {
    check_other_file("--profile", options.profile,
                     {{"--save_path", request.save_path},
                      {"--save_codes", request.save_codes},
                      {"--load_codes", request.load_codes}});
    profile.emplace(options.profile, DeviceLimits::measure(request.threads, request.cpus));
  }
  std::optional<SongPicture> picture;
  if (!options.spectrogram.empty()) {
    check_other_file("--spectrogram", options.spectrogram,
                     {{"--save_path", request.save_path},
                      {"--save_codes", request.save_codes},
                      {"--load_codes", request.load_codes},
                      {"--lyrics", options.lyrics.value_or("")},
                      {"--tags", options.tags.value_or("")},
                      {"--request", options.request_file.value_or("")},
                      {"--profile", options.profile}});
    picture.emplace(options.spectrogram);
  }
  const SongFileHooks hooks = {
      .progress = [&](std::string_view stage, int64_t done, int64_t total,
                      double seconds) { reporter.report(stage, done, total, seconds); },
      .plan =
          [&](const std::string& text) {
            if (!silent) std::fprintf(stderr, "%s\n", text.c_str());
          },
      .profile = profile ? &*profile : nullptr,
      .cancelled =
          [&](const nlohmann::json& cancelled) {
            if (options.json) print_out(cancelled.dump(2) + "\n");
          },
      .audio =
          [&](std::span<const float> left, std::span<const float> right) {
            if (picture) picture->add(left, right);
          },
  };
  nlohmann::json json;
  try {
    json = make(request, hooks, &interrupt_token());
  } catch (...) {
    reporter.finish();
    throw;
  }
  reporter.finish();
  if (picture) write_picture(*picture);
  if (options.json) {
    print_out(json.dump(2) + "\n");
  } else if (!silent) {
    print_summary(json);
  }
  return 0;
}

}  // namespace heartmula
