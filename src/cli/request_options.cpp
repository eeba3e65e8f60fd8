#include "cli/request_options.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/input.h"
#include "song/codes_file.h"
#include "song/unfinished_songs.h"
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

/// What made a song, perhaps on another machine; who guessed is a part of the song where guesses change it.
void forget_machine(Request& request, const Request& defaults) {
  MachineSettings machine = defaults.machine;
  if (request.song.guesses_change_it()) {
    machine.drafter = request.machine.drafter;
    machine.draft_frames = request.machine.draft_frames;
  }
  request.machine = std::move(machine);
}

/// What is stored in a request file or beside codes, without what is not this run's: where that song went, and, of a
/// song that was made (perhaps on another machine), what made it.
StoredRequest inherited(StoredRequest stored, const Request& defaults, bool has_path) {
  const OutputSettings& output = stored.request.output;
  if (!stored.was_made && !has_path && (output.save_path != defaults.output.save_path || !output.save_codes.empty())) {
    spdlog::warn("save_path and save_codes of a request are not taken over: name them on the command line");
  }
  stored.request.output.save_path = defaults.output.save_path;
  stored.request.output.save_codes.clear();
  if (stored.was_made) forget_machine(stored.request, defaults);
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

/// Where the song goes and in which format: the flags decide, and what is inherited must not contradict them. A path
/// that nobody gave is one that is free.
void settle_output(ResolvedRequest& resolved, const SettingFlags& flags, bool has_path) {
  OutputSettings& output = resolved.request.output;
  if (output.save_path == "-") output.save_path = "/dev/stdout";
  if (!has_path) {
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

Request default_request() {
  Request defaults;
  defaults.output.save_path = asset_path("output.mp3");
  return defaults;
}

/// What a request is made from, beside the flags.
struct Source {
  StoredRequest stored;
  bool has_texts = false;  // of lyrics and tags
};

bool has_texts(const StoredRequest& stored) {
  return stored.was_made || !stored.request.song.lyrics.empty() || !stored.request.song.tags.empty();
}

/// The settings of the song that these codes are of.
Source source_of(const Codes& codes, const Request& defaults) {
  Source source{.stored = {.request = defaults, .was_made = true}, .has_texts = !codes.origin.request_json.empty()};
  if (source.has_texts) {
    source.stored.request = parse_request(codes.origin.request_json, codes.name, defaults).request;
  }
  source.stored.request.song.continue_from_ms.reset();
  return source;
}

/// Another checkpoint: the parts of the stored one are not its.
void apply_flags(const SettingFlags& flags, Request& request) {
  flags.apply(request);
  if (!flags.given("model_path")) return;
  for (const auto& [name, path] :
       {std::pair("mula_path", &request.checkpoint.mula_path), std::pair("codec_path", &request.checkpoint.codec_path),
        std::pair("tokenizer", &request.checkpoint.tokenizer)}) {
    if (!flags.given(name)) path->clear();
  }
}

/// Lyrics and tags: those of the flags are read once, for all songs.
class Texts {
 public:
  explicit Texts(const SettingFlags& flags) : flags_(flags) {}

  void settle(const Source& source, Request& request, std::vector<NamedPath>& inputs) {
    request.song.lyrics = text("lyrics", source.has_texts, source.stored.request.song.lyrics, request.run.lyrics_text);
    request.song.tags = text("tags", source.has_texts, source.stored.request.song.tags, request.run.tags_text);
    inputs.insert(inputs.end(), inputs_.begin(), inputs_.end());
    if (request.song.lyrics.find_first_not_of(" \t\r\n") == std::string::npos && !std::exchange(has_told_, true)) {
      spdlog::info("there are no lyrics: the song is instrumental");
    }
  }

 private:
  std::string text(const std::string& flag, bool is_stored, const std::string& stored,
                   const std::optional<std::string>& literal) {
    if (is_stored && !flags_.given(flag) && !literal) return stored;
    std::optional<std::string>& known = flag == "lyrics" ? lyrics_ : tags_;
    if (!known) known = song_text(flag, flags_.word(flag), literal, inputs_);
    return *known;
  }

  const SettingFlags& flags_;
  std::optional<std::string> lyrics_;
  std::optional<std::string> tags_;
  std::vector<NamedPath> inputs_;
  bool has_told_ = false;
};

/// A song of a file with many.
struct Line {
  std::string name;  // for messages: "songs.jsonl, line 3"
  std::string text;
};

std::vector<Line> lines_of(const std::filesystem::path& file) {
  const std::string text = read_input(file);
  std::vector<Line> lines;
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    ++number;
    std::string line = text.substr(begin, end - begin);
    if (line.find_first_not_of(" \t\r") != std::string::npos) {
      lines.push_back({fmt::format("{}, line {}", input_name(file), number), std::move(line)});
    }
    begin = end + 1;
  }
  if (lines.empty()) throw user_error("{}: holds no request", input_name(file));
  return lines;
}

/// What the line says. If it names codes and no texts, the rest is that of the song that they are of.
Source source_of(const Line& line, const Request& defaults) {
  Source source{.stored = parse_request(line.text, line.name, defaults)};
  source.has_texts = has_texts(source.stored);
  const std::string& codes = source.stored.request.song.load_codes;
  if (source.has_texts || codes.empty()) return source;
  Source beginning = source_of(read_codes(codes), defaults);
  beginning.stored.request.output.save_path = defaults.output.save_path;
  beginning.stored.request.output.save_codes.clear();
  forget_machine(beginning.stored.request, defaults);
  source.has_texts = beginning.has_texts;
  source.stored = parse_request(line.text, line.name, beginning.stored.request);
  return source;
}

void check_several(const std::string& flag, const std::string& path) {
  if (output_descriptor(path) || is_stream(path)) {
    throw user_error("{} {}: is one stream, but each of several songs needs a file of its own", flag, path);
  }
}

/// An output of one of several songs, if there is one.
void number_path(const std::string& flag, std::string& path, size_t number, uint64_t seed) {
  if (path.empty()) return;
  check_several(flag, path);
  path = numbered_path(path, static_cast<int64_t>(number), seed);
}

/// They are made with the same models.
void check_shared(const Request& request, const std::string& name, const Request& first,
                  const std::string& first_name) {
  for (const Setting& setting : settings_table()) {
    if (setting.group != SettingGroup::kCheckpoint && setting.group != SettingGroup::kMachine) continue;
    const nlohmann::json value = setting.type->get(request);
    const nlohmann::json first_value = setting.type->get(first);
    if (value == first_value) continue;
    throw user_error("{}: {} is {}, but {} in {}: the songs of a run have it in common; give {} for all of them", name,
                     setting.name, value.dump(), first_value.dump(), first_name, setting.flag());
  }
}

ResolvedRequest resolve_line(const Line& line, size_t number, const SettingFlags& flags, bool goes_on, Texts& texts) {
  Request defaults = default_request();
  defaults.output.save_path.clear();
  Source source = source_of(line, defaults);
  OutputSettings own = source.stored.request.output;  // a line says itself where its song goes, unless it tells of one
  if (source.stored.was_made) {
    own.save_path.clear();
    own.save_codes.clear();
    forget_machine(source.stored.request, defaults);
  }
  ResolvedRequest resolved{.name = line.name};
  Request& request = resolved.request;
  request = source.stored.request;
  apply_flags(flags, request);
  request.run.goes_on = goes_on;
  if (!request.song.seed) request.song.seed = random_seed();
  const std::string save_path =
      flags.given("save_path") ? request.output.save_path : default_request().output.save_path;
  if (own.save_path == "-") own.save_path = "/dev/stdout";
  if (!own.save_path.empty()) check_several(line.name + ": save_path", own.save_path);
  request.output.save_path = own.save_path;
  if (own.save_path.empty()) {
    request.output.save_path = save_path == "-" ? "/dev/stdout" : save_path;
    number_path("--save_path", request.output.save_path, number, *request.song.seed);
  }
  if (!own.save_codes.empty()) {
    request.output.save_codes = own.save_codes;
  } else {
    number_path("--save_codes", request.output.save_codes, number, *request.song.seed);
  }
  number_path("--spectrogram", request.run.spectrogram, number, *request.song.seed);
  settle_output(resolved, flags, !own.save_path.empty() || flags.given("save_path"));
  texts.settle(source, request, resolved.inputs);
  return resolved;
}

std::vector<ResolvedRequest> resolve_lines(const SettingFlags& flags) {
  for (const char* other : {"request", "load_codes"}) {
    if (flags.given(other)) throw user_error("--{} and --requests are both given: choose one", other);
  }
  const std::filesystem::path file = expand_home(*flags.word("requests"));
  const std::vector<Line> lines = lines_of(file);
  Texts texts(flags);
  std::vector<ResolvedRequest> requests;
  for (const Line& line : lines) {
    requests.push_back(resolve_line(line, requests.size() + 1, flags, is_unfinished_list(file), texts));
    ResolvedRequest& resolved = requests.back();
    if (!resolved.request.run.goes_on) resolved.inputs.push_back({"--requests", file});
    if (resolved.request.run.songs > 1) throw user_error("--songs and --requests are both given: choose one");
    check_shared(resolved.request, line.name, requests.front().request, lines.front().name);
  }
  return requests;
}

std::vector<ResolvedRequest> resolve_variations(const SettingFlags& flags) {
  ResolvedRequest first = resolve_request(flags, CheckpointParts::kAll);
  first.song_lock.reset();
  check_settings(first.request);
  const auto songs = static_cast<uint64_t>(first.request.run.songs);
  const uint64_t last = UINT64_MAX - (songs - 1);
  std::optional<uint64_t>& seed = first.request.song.seed;
  if (!seed) seed = std::min(random_seed(), last);
  if (*seed > last) throw user_error("--seed {}: of {} songs, the last one's seed would be 2^64 or more", *seed, songs);
  const bool has_path = flags.given("save_path");
  if (!has_path) first.request.output.save_path = default_request().output.save_path;
  std::vector<ResolvedRequest> requests;
  for (uint64_t i = 0; i < songs; ++i) {
    ResolvedRequest& song = requests.emplace_back(first);
    song.request.song.seed = *seed + i;
    const size_t number = static_cast<size_t>(i) + 1;
    number_path("--save_path", song.request.output.save_path, number, *seed + i);
    number_path("--save_codes", song.request.output.save_codes, number, *seed + i);
    number_path("--spectrogram", song.request.run.spectrogram, number, *seed + i);
    settle_output(song, flags, has_path);
  }
  return requests;
}

}  // namespace

ResolvedRequest resolve_request(const SettingFlags& flags, CheckpointParts parts, const std::filesystem::path& codes) {
  const Request defaults = default_request();
  const auto given_path = [&](const char* name) { return expand_home(flags.word(name).value_or("")); };
  ResolvedRequest resolved;
  Source source{.stored = {.request = defaults}};
  const std::filesystem::path load_codes = codes.empty() ? given_path("load_codes") : codes;
  read_streamed_codes(load_codes, resolved);
  if (const std::filesystem::path file = given_path("request"); !file.empty()) {
    source.stored = read_request(file, defaults);
    resolved.inputs.push_back({"--request", file});
    source.has_texts = has_texts(source.stored);
  } else if (!load_codes.empty()) {
    source = source_of(resolved.codes ? *resolved.codes : read_codes(load_codes), defaults);
  }
  source.stored = inherited(std::move(source.stored), defaults, flags.given("save_path"));

  Request& request = resolved.request;
  request = source.stored.request;
  apply_flags(flags, request);
  if (!load_codes.empty()) request.song.load_codes = load_codes.string();
  read_streamed_codes(request.song.load_codes, resolved);  // of a stored request
  settle_output(resolved, flags, flags.given("save_path"));
  if (parts == CheckpointParts::kAll) Texts(flags).settle(source, request, resolved.inputs);
  return resolved;
}

bool asks_for_songs(const SettingFlags& flags) {
  Request request;
  const std::optional<std::string> songs = flags.word("songs");
  if (songs) find_setting("songs")->type->parse(request, *songs, "--songs");
  return flags.given("requests") || request.run.songs != 1;
}

std::vector<ResolvedRequest> resolve_requests(const SettingFlags& flags) {
  return flags.given("requests") ? resolve_lines(flags) : resolve_variations(flags);
}

}  // namespace heartmula
