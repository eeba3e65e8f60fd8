#include "cli/request_options.h"

#include <spdlog/spdlog.h>

#include <filesystem>
#include <memory>
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

/// Codes that come through a stream, which can be read once, go into `resolved`.
void read_streamed_codes(const std::filesystem::path& path, ResolvedRequest& resolved) {
  if (resolved.codes || input_kind(path) != InputKind::kStream) return;
  const InputBytes input(path);
  resolved.codes = parse_codes(input.bytes(), input.name());
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
void settle_output(ResolvedRequest& resolved, const SettingFlags& flags) {
  OutputSettings& output = resolved.request.output;
  if (output.save_path == "-") output.save_path = "/dev/stdout";
  if (!flags.given("save_path")) {
    std::filesystem::path path = output.save_path;
    if (output.format) path.replace_extension(audio_format_name(*output.format));
    ClaimedPath claimed = claim_unused_path(path.string());
    output.save_path = std::move(claimed.path);
    resolved.song_lock = std::make_shared<const OutputLock>(std::move(claimed.lock));
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
  const std::filesystem::path load_codes = codes.empty() ? given_path("load_codes") : codes;
  read_streamed_codes(load_codes, resolved);
  if (const std::filesystem::path file = given_path("request"); !file.empty()) {
    stored = read_request(file, defaults);
    resolved.inputs.push_back({"--request", file});
    has_texts = stored.was_made || !stored.request.song.lyrics.empty() || !stored.request.song.tags.empty();
  } else if (!load_codes.empty()) {
    const Codes loaded = resolved.codes ? *resolved.codes : read_codes(load_codes);
    has_texts = !loaded.origin.request_json.empty();
    if (has_texts) stored.request = parse_request(loaded.origin.request_json, loaded.name, defaults).request;
    stored.was_made = true;
    stored.request.song.continue_from_ms.reset();
  }
  stored = inherited(std::move(stored), defaults);

  Request& request = resolved.request;
  request = stored.request;
  flags.apply(request);
  if (!load_codes.empty()) request.song.load_codes = load_codes.string();
  read_streamed_codes(request.song.load_codes, resolved);  // of a stored request
  if (flags.given("model_path")) {  // another checkpoint: the parts of the stored one are not its
    for (const auto& [name, path] : {std::pair("mula_path", &request.checkpoint.mula_path),
                                     std::pair("codec_path", &request.checkpoint.codec_path),
                                     std::pair("tokenizer", &request.checkpoint.tokenizer)}) {
      if (!flags.given(name)) path->clear();
    }
  }
  settle_output(resolved, flags);
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
