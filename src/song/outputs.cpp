#include "song/outputs.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <map>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/input.h"
#include "base/same_file.h"

namespace heartmula {
namespace fs = std::filesystem;
namespace {

constexpr const char* kSaveCodes = "--save_codes";
constexpr const char* kProfile = "--profile";
constexpr const char* kCodesBeside = "the song's codes beside --save_path";

fs::path codes_beside(const std::string& song) {
  return song + ".codes.safetensors";
}

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

/// "song.mp3", "song-1.mp3", ...
std::string numbered(const fs::path& path, int64_t number) {
  if (number == 0) return path.string();
  const std::string name = fmt::format("{}-{}{}", path.stem().string(), number, path.extension().string());
  return (path.parent_path() / name).string();
}

std::vector<NamedPath> outputs_of(const Request& request) {
  std::vector<NamedPath> outputs;
  const auto add = [&](const char* name, const fs::path& path) {
    // Pipes and devices are nobody's file.
    if (!path.empty() && !is_stream(path)) outputs.push_back({name, path});
  };
  const std::string& song = request.output.save_path;
  add("--save_path", song);
  if (!song.empty() && !is_stream(song)) {
    add("the file that describes the song beside --save_path", sidecar_path(song));
    if (request.output.save_codes.empty()) add(kCodesBeside, codes_beside(song));
  }
  add(kSaveCodes, request.output.save_codes);
  add(kProfile, request.run.profile);
  add("--spectrogram", request.run.spectrogram);
  return outputs;
}

// The file, or all that is in the folder.
void add_files(std::vector<NamedPath>& files, const std::string& name, const fs::path& path) {
  std::error_code error;
  if (path.empty()) return;
  files.push_back({name, path});
  for (fs::recursive_directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
    files.push_back({name, entry->path()});
  }
}

bool ends_song_name(const std::string& name) {
  return known_audio_format(name) || name.find(".codes.") != std::string::npos;
}

// Songs, their codes and sidecars may lie in the folder of a checkpoint, too; they are no part of it.
bool is_songs(const fs::path& path) {
  return ends_song_name(path.filename().string()) ||
         (path.extension() == ".json" && ends_song_name(path.stem().string()));
}

// Everything in the folder that --model_path names: other versions of the models, too.
void add_checkpoint_folder(std::vector<NamedPath>& files, const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const fs::path path = entry->path();
    const bool is_model = is_there(path / "config.json");
    if (is_model || (!entry->is_directory(error) && !is_songs(path))) {
      add_files(files, "the checkpoint's " + path.filename().string(), path);
    }
  }
}

// What a song is made from.
std::vector<NamedPath> files_of(const Request& request, const CheckpointPaths& checkpoint) {
  std::vector<NamedPath> files;
  for (const fs::path& path : {checkpoint.tokenizer, checkpoint.gen_config, checkpoint.mula, checkpoint.codec}) {
    add_files(files, "the checkpoint's " + path.filename().string(), path);
  }
  if (!request.checkpoint.model_path.empty()) add_checkpoint_folder(files, request.checkpoint.model_path);
  if (!is_stream("/dev/stdin")) add_files(files, "the standard input", "/dev/stdin");
  add_files(files, "--muq_embed", request.song.muq_embed);
  for (const std::string& adapter : request.checkpoint.lora) add_files(files, "--lora", adapter);
  return files;
}

void check_different(const NamedPath& output, const NamedPath& other) {
  if (same_file(output.path, other.path)) {
    throw user_error("{} and {} are the same file: {}", output.name, other.name, output.path.string());
  }
}

}  // namespace

fs::path sidecar_path(const fs::path& song) {
  return song.string() + ".json";
}

void check_outputs(const Request& request, const std::vector<NamedPath>& inputs, const CheckpointPaths& checkpoint) {
  const std::vector<NamedPath> outputs = outputs_of(request);
  const std::vector<NamedPath> files = files_of(request, checkpoint);
  for (size_t i = 0; i < outputs.size(); ++i) {
    for (size_t j = 0; j < i; ++j) check_different(outputs[j], outputs[i]);
    for (const NamedPath& input : inputs) check_different(input, outputs[i]);
    for (const NamedPath& file : files) check_different(outputs[i], file);
    // The codes beside the song may be those that it goes on from: prepare_codes_path() knows what to do.
    const bool is_derived = outputs[i].name == kCodesBeside;
    const bool grows = request.run.goes_on && outputs[i].name == kSaveCodes;
    if (!is_derived && !grows && !request.song.load_codes.empty() &&
        input_kind(request.song.load_codes) == InputKind::kFile) {
      check_different({"--load_codes", request.song.load_codes}, outputs[i]);
    }
  }
}

void check_different_outputs(const std::vector<const Request*>& requests) {
  std::map<fs::path, size_t> loaded;
  std::map<fs::path, size_t> written;
  for (size_t song = 0; song < requests.size(); ++song) {
    const std::string& codes = requests[song]->song.load_codes;
    if (!codes.empty() && input_kind(codes) == InputKind::kFile) loaded.emplace(place_of(codes), song);
  }
  for (size_t song = 0; song < requests.size(); ++song) {
    for (const NamedPath& output : outputs_of(*requests[song])) {
      if (output.name == kProfile) continue;  // there is one of all songs
      const fs::path place = place_of(output.path);
      const auto [other, is_new] = written.emplace(place, song);
      if (!is_new) {
        throw user_error("songs {} and {} would both write {} ({})", other->second + 1, song + 1, output.path.string(),
                         output.name);
      }
      const auto read = loaded.find(place);
      if (read != loaded.end() && read->second != song) {
        throw user_error("song {} goes on from {}, where song {} would write ({})", read->second + 1,
                         output.path.string(), song + 1, output.name);
      }
    }
  }
}

std::string numbered_path(const std::string& path, int64_t number, uint64_t seed) {
  std::string named = path;
  for (const auto& [mark, value] :
       {std::pair("{n}", std::to_string(number)), std::pair("{seed}", std::to_string(seed))}) {
    for (size_t at = 0; (at = named.find(mark, at)) != std::string::npos; at += value.size()) {
      named.replace(at, std::string_view(mark).size(), value);
    }
  }
  return named == path ? numbered(path, number) : named;
}

std::string unused_path(const std::string& path) {
  int64_t number = 0;
  while (is_there(numbered(path, number))) ++number;
  return numbered(path, number);
}

ClaimedPath claim_unused_path(const std::string& path) {
  for (int64_t number = 0;; ++number) {
    std::string unused = numbered(path, number);
    if (is_there(unused)) continue;
    std::optional<OutputLock> lock = OutputLock::if_free(unused);
    // Who had it may have written it just now.
    if (lock && !is_there(unused)) return {std::move(unused), std::move(*lock)};
  }
}

fs::path temporary_path(std::string_view ending) {
  std::error_code error;
  const fs::path folder = fs::temp_directory_path(error);
  return (error ? fs::path("/tmp") : folder) / fmt::format("heartmula-{:016x}.{}", random_seed(), ending);
}

fs::path usual_codes_path(const Request& request) {
  return request.output.save_codes.empty() ? codes_beside(request.output.save_path)
                                           : fs::path(request.output.save_codes);
}

fs::path prepare_codes_path(const Request& request, bool song_is_stream, const LoadedCodes& loaded) {
  if (!request.output.save_codes.empty()) return request.output.save_codes;
  if (song_is_stream) return temporary_path("codes.safetensors");
  fs::path codes = codes_beside(request.output.save_path);
  const bool is_loaded = same_file(codes, loaded.path);
  if (!is_there(codes) || (is_loaded && loaded.is_unfinished)) return codes;
  fs::path free_name;
  for (int i = 1; free_name.empty() || is_there(free_name); ++i) {
    free_name = fmt::format("{}.codes.{}.safetensors", request.output.save_path, i);
  }
  if (is_loaded) return free_name;
  std::error_code error;
  fs::rename(codes, free_name, error);
  if (error) throw user_error("{}: holds codes of an earlier run and cannot be set aside", codes.string());
  spdlog::warn("{}: codes of an earlier run, kept as {}", codes.string(), free_name.string());
  return codes;
}

}  // namespace heartmula
