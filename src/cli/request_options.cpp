#include "cli/request_options.h"

#include <spdlog/spdlog.h>

#include <filesystem>
#include <memory>
#include <span>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/input.h"
#include "song/codes_file.h"
#include "text/text_source.h"

namespace heartmula {
namespace {

// heartlib's defaults lie in ./assets; where there is no such folder a song goes into the current one.
std::string asset_path(const std::string& name) {
  std::error_code ignored;
  return std::filesystem::is_directory("assets", ignored) ? "./assets/" + name : name;
}

/// What --lyrics FILE_OR_TEXT or --lyrics_text TEXT come to, or heartlib's default file.
std::string song_text(const std::string& flag, const std::optional<std::string>& value,
                      const std::optional<std::string>& literal, std::vector<NamedPath>& inputs) {
  const std::string default_file = "./assets/" + flag + ".txt";
  std::error_code ignored;
  if (value && literal) throw user_error("--{} and --{}_text are both given: choose one", flag, flag);
  if (literal) return *literal;
  if (value || std::filesystem::is_regular_file(default_file, ignored)) {
    const std::string& source = value ? *value : default_file;
    const std::filesystem::path path = expand_home(source);
    if (input_kind(path) == InputKind::kFile) inputs.push_back({"--" + flag, path});
    return read_text_argument("--" + flag, source);
  }
  throw user_error("--{} is missing: a file or the text itself{}", flag,
                   flag == "lyrics" ? "; --lyrics_text \"\" makes an instrumental song" : "");
}

/// Codes that come through a stream are needed twice: they go into a file, which `resolved` keeps as long as it lives.
std::filesystem::path regular_codes(const std::filesystem::path& codes, ResolvedRequest& resolved) {
  if (codes.empty() || input_kind(codes) != InputKind::kStream) return codes;
  const std::string bytes = read_input(codes);
  std::filesystem::path path = temporary_path("input.safetensors");
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(bytes)));
  file.commit(/*sync=*/false);
  resolved.temporary = std::shared_ptr<const void>(nullptr, [path](const void*) {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  });
  return path;
}

/// What is stored in a request file or beside codes, without what is not this run's: where that song went, and, of a
/// song that was made (perhaps on another machine), what made it.
StoredRequest inherited(StoredRequest stored, const Request& defaults) {
  const OutputSettings& output = stored.request.output;
  if (!stored.was_made && (output.save_path != defaults.output.save_path || !output.save_codes.empty())) {
    spdlog::warn("save_path and save_codes of a request are not taken over: name them on the command line");
  }
  stored.request.output.save_path = defaults.output.save_path;
  stored.request.output.save_codes.clear();
  if (stored.was_made) stored.request.machine = defaults.machine;
  return stored;
}

bool holds(AudioFormat format, std::optional<SampleFormat> samples) {
  try {
    resolve_sample_format(format, samples);
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// Where the song goes and in which format: the flags decide, and what is inherited must not contradict them.
void settle_output(OutputSettings& output, const SettingFlags& flags) {
  if (output.save_path == "-") output.save_path = "/dev/stdout";
  if (!flags.given("save_path")) {
    std::filesystem::path path = output.save_path;
    if (output.format) path.replace_extension(audio_format_name(*output.format));
    output.save_path = unused_path(path.string());
  } else if (!flags.given("format") && known_audio_format(output.save_path)) {
    output.format.reset();
  }
  const auto format = output.format ? output.format : known_audio_format(output.save_path);
  if (!flags.given("sample_format") && format && !holds(*format, output.sample_format)) output.sample_format.reset();
}

}  // namespace

ResolvedRequest resolve_request(const SettingFlags& flags, CheckpointParts parts, const std::filesystem::path& codes) {
  Request defaults;
  defaults.output.save_path = asset_path("output.mp3");
  const auto given_path = [&](const char* name) { return expand_home(flags.word(name).value_or("")); };
  ResolvedRequest resolved;
  StoredRequest stored{.request = defaults};
  bool has_texts = false;
  const std::filesystem::path load_codes = regular_codes(codes.empty() ? given_path("load_codes") : codes, resolved);
  if (const std::filesystem::path file = given_path("request"); !file.empty()) {
    stored = read_request(file, defaults);
    resolved.inputs.push_back({"--request", file});
    has_texts = stored.was_made || !stored.request.song.lyrics.empty() || !stored.request.song.tags.empty();
  } else if (!load_codes.empty()) {
    const std::string json = read_codes(load_codes).origin.request_json;
    has_texts = !json.empty();
    if (has_texts) stored.request = parse_request(json, load_codes.string(), defaults).request;
    stored.was_made = true;
    stored.request.song.continue_from_ms.reset();
  }
  stored = inherited(std::move(stored), defaults);

  Request& request = resolved.request;
  request = stored.request;
  flags.apply(request);
  if (!load_codes.empty()) request.song.load_codes = load_codes.string();
  if (flags.given("model_path")) {  // another checkpoint: the parts of the stored one are not its
    for (const auto& [name, path] : {std::pair("mula_path", &request.checkpoint.mula_path),
                                     std::pair("codec_path", &request.checkpoint.codec_path),
                                     std::pair("tokenizer", &request.checkpoint.tokenizer)}) {
      if (!flags.given(name)) path->clear();
    }
  }
  settle_output(request.output, flags);
  if (parts == CheckpointParts::kAll) {
    const auto text = [&](const std::string& flag, const std::string& stored_text,
                          const std::optional<std::string>& literal) {
      if (has_texts && !flags.given(flag) && !literal) return stored_text;
      return song_text(flag, flags.word(flag), literal, resolved.inputs);
    };
    request.song.lyrics = text("lyrics", stored.request.song.lyrics, request.run.lyrics_text);
    request.song.tags = text("tags", stored.request.song.tags, request.run.tags_text);
    if (request.song.lyrics.find_first_not_of(" \t\r\n") == std::string::npos) {
      spdlog::info("there are no lyrics: the song is instrumental");
    }
  }
  return resolved;
}

}  // namespace heartmula
