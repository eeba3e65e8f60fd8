#include "song/request.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <random>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json_fields.h"
#include "base/same_file.h"
#include "text/unicode.h"

namespace heartmula {
namespace {

constexpr int64_t kMaxInteger = int64_t{1} << 40;
constexpr int64_t kMaxThreads = 1024;

void check_integer(const char* flag, int64_t value, int64_t min, int64_t max) {
  if (value < min || value > max) throw user_error("--{} is {}, but must be from {} to {}", flag, value, min, max);
}

void check_number(const char* flag, double value, double min, double max) {
  if (!(value >= min && value <= max)) {
    throw user_error("--{} is {}, but must be from {} to {}", flag, value, min, max);
  }
}

}  // namespace

FrameLoopSettings Request::frame_loop_settings(int32_t audio_eos_id) const {
  return {.sampling = {topk, static_cast<float>(temperature), static_cast<float>(cfg_scale)},
          .max_audio_length_ms = max_audio_length_ms,
          .audio_eos_id = audio_eos_id};
}

CodecSettings Request::codec_settings() const {
  return {.flow = {codec_steps, static_cast<float>(codec_guidance_scale)}, .compat = compat};
}

SongSize Request::size(int64_t context) const {
  return {.streams = frame_loop_settings(0).sampling.streams(),
          .context = context,
          .frames_at_once = load_codes.empty() ? kEmbeddingFrames : context,
          .codec = codec_settings()};
}

uint64_t random_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

void validate(const Request& r) {
  // JSON, and so the request beside each song, holds nothing else.
  const std::pair<const char*, const std::string*> texts[] = {{"--lyrics", &r.lyrics},
                                                              {"--tags", &r.tags},
                                                              {"--title", &r.title},
                                                              {"--version", &r.version},
                                                              {"--model_path", &r.model_path},
                                                              {"--save_path", &r.save_path},
                                                              {"--save_codes", &r.save_codes},
                                                              {"--load_codes", &r.load_codes},
                                                              {"--cpus", &r.cpus}};
  for (const auto& [flag, text] : texts) check_utf8(flag, *text);
  if (r.model_path.empty()) throw user_error("--model_path is missing: the folder with the checkpoint");
  check_integer("max_audio_length_ms", r.max_audio_length_ms, 0, kMaxInteger);
  check_integer("topk", r.topk, 1, kMaxInteger);
  check_number("temperature", r.temperature, 1e-3, 1e3);
  check_number("cfg_scale", r.cfg_scale, 0.0, 100.0);
  check_integer("codec_steps", r.codec_steps, 1, 1000);
  check_number("codec_guidance_scale", r.codec_guidance_scale, 0.0, 100.0);
  if (r.continue_from_ms) check_integer("continue_from_ms", *r.continue_from_ms, 0, kMaxInteger);
  check_integer("threads", r.threads, 0, kMaxThreads);
  if (r.continue_from_ms && r.load_codes.empty()) {
    throw user_error("--continue_from_ms needs --load_codes: the codes to go on from");
  }
  if (r.save_path.empty()) throw user_error("--save_path is empty: where shall the song go?");
  const AudioFormat format = r.format ? *r.format : audio_format_of(r.save_path);
  resolve_sample_format(format, r.sample_format);
  const std::string sidecar = r.save_path + ".json";
  for (const auto& [flag, path] : {std::pair("--load_codes", r.load_codes), std::pair("--save_codes", r.save_codes)}) {
    if (same_file(path, r.save_path)) {
      throw user_error("{} and --save_path are the same file: {}", flag, path);
    }
    if (same_file(path, sidecar)) {
      throw user_error("{} is the file that describes the song beside --save_path: {}", flag, path);
    }
  }
}

nlohmann::json to_json(const Request& r) {
  nlohmann::json json = {
      {"model_path", r.model_path},
      {"version", r.version},
      {"lyrics", r.lyrics},
      {"tags", r.tags},
      {"title", r.title},
      {"max_audio_length_ms", r.max_audio_length_ms},
      {"topk", r.topk},
      {"temperature", r.temperature},
      {"cfg_scale", r.cfg_scale},
      {"mula_dtype", weight_dtype_name(r.mula_dtype)},
      {"codec_dtype", weight_dtype_name(r.codec_dtype)},
      {"codec_steps", r.codec_steps},
      {"codec_guidance_scale", r.codec_guidance_scale},
      {"compat", r.compat},
      {"save_path", r.save_path},
      {"lazy_load", r.lazy_load},
      {"mlock", r.mlock},
      {"threads", r.threads},
      {"overlap", overlap_name(r.overlap)},
  };
  if (!r.cpus.empty()) json["cpus"] = r.cpus;
  if (r.seed) json["seed"] = *r.seed;
  if (!r.load_codes.empty()) json["load_codes"] = r.load_codes;
  if (r.continue_from_ms) json["continue_from_ms"] = *r.continue_from_ms;
  if (!r.save_codes.empty()) json["save_codes"] = r.save_codes;
  if (r.format) json["format"] = audio_format_name(*r.format);
  if (r.sample_format) json["sample_format"] = sample_format_name(*r.sample_format);
  return json;
}

Request parse_request(std::string_view text, const std::string& name, Request defaults) {
  const nlohmann::json json = parse_json_object(text, name);
  const JsonFields file(json, name);
  const bool sidecar = json.contains("request");
  const nlohmann::json& object = sidecar ? json["request"] : json;
  const JsonFields fields = sidecar ? file.object("request") : file;

  Request r = std::move(defaults);
  std::vector<std::string> known;
  const auto text_field = [&](const char* field, std::string& target) {
    known.emplace_back(field);
    if (fields.has(field)) target = fields.text(field);
  };
  const auto integer_field = [&](const char* field, auto& target, int64_t max = kMaxInteger) {
    known.emplace_back(field);
    if (fields.has(field)) target = static_cast<std::decay_t<decltype(target)>>(fields.integer(field, 0, max));
  };
  const auto number_field = [&](const char* field, double& target) {
    known.emplace_back(field);
    if (fields.has(field)) target = fields.number(field, -1e300, 1e300);
  };
  const auto flag_field = [&](const char* field, bool& target) {
    known.emplace_back(field);
    if (fields.has(field)) target = fields.flag(field);
  };
  text_field("model_path", r.model_path);
  text_field("version", r.version);
  text_field("lyrics", r.lyrics);
  text_field("tags", r.tags);
  text_field("title", r.title);
  text_field("load_codes", r.load_codes);
  text_field("save_path", r.save_path);
  text_field("save_codes", r.save_codes);
  text_field("cpus", r.cpus);
  integer_field("max_audio_length_ms", r.max_audio_length_ms);
  integer_field("topk", r.topk);
  integer_field("codec_steps", r.codec_steps);
  known.emplace_back("continue_from_ms");
  if (fields.has("continue_from_ms")) r.continue_from_ms = fields.integer("continue_from_ms", 0, kMaxInteger);
  integer_field("threads", r.threads, kMaxThreads);
  number_field("temperature", r.temperature);
  number_field("cfg_scale", r.cfg_scale);
  number_field("codec_guidance_scale", r.codec_guidance_scale);
  flag_field("compat", r.compat);
  flag_field("lazy_load", r.lazy_load);
  flag_field("mlock", r.mlock);
  known.emplace_back("seed");
  if (fields.has("seed")) r.seed = fields.unsigned_integer("seed");
  const auto word_field = [&](const char* field, auto& target, const auto& parse) {
    std::string word;
    text_field(field, word);
    if (word.empty()) return;
    try {
      target = parse(word);
    } catch (const Error& error) {
      throw user_error("{}: {}: {}", name, field, error.what());
    }
  };
  word_field("mula_dtype", r.mula_dtype, [](const std::string& w) { return parse_weight_dtype("mula_dtype", w); });
  word_field("codec_dtype", r.codec_dtype, [](const std::string& w) { return parse_weight_dtype("codec_dtype", w); });
  word_field("overlap", r.overlap, parse_overlap);
  word_field("format", r.format, parse_audio_format);
  word_field("sample_format", r.sample_format, parse_sample_format);

  for (const auto& item : object.items()) {
    if (std::find(known.begin(), known.end(), item.key()) == known.end()) {
      throw user_error("{}: unknown setting \"{}\"", name, item.key());
    }
  }
  return r;
}

Request read_request(const std::filesystem::path& path, Request defaults) {
  return parse_request(read_file(path), path.string(), std::move(defaults));
}

DType parse_weight_dtype(std::string_view flag, const std::string& name) {
  if (name == "float32" || name == "fp32" || name == "f32") return DType::kF32;
  if (name == "bfloat16" || name == "bf16") return DType::kBF16;
  if (name == "float16" || name == "fp16") {
    spdlog::warn("--{} {}: this build computes 16-bit floats as bf16", flag, name);
    return DType::kBF16;
  }
  throw user_error("--{} {}: must be float32 (fp32) or bfloat16 (bf16)", flag, name);
}

std::optional<int> parse_overlap(const std::string& word) {
  if (word == "auto") return std::nullopt;
  if (word == "off") return 0;
  int threads = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), threads);
  if (error == std::errc() && end == word.data() + word.size() && threads >= 1 && threads <= kMaxThreads)
    return threads;
  throw user_error("--overlap {}: must be auto, off, or a number of threads for the codec", word);
}

std::string overlap_name(const std::optional<int>& overlap) {
  if (!overlap) return "auto";
  return *overlap == 0 ? "off" : std::to_string(*overlap);
}

std::string weight_dtype_name(DType dtype) {
  return dtype == DType::kBF16 ? "bfloat16" : "float32";
}

}  // namespace heartmula
