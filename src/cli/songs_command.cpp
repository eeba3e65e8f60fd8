#include "cli/songs_command.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/input.h"
#include "base/message.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/song_summary.h"
#include "cli/songs_progress.h"
#include "measure/song_picture.h"
#include "song/song_files.h"

namespace heartmula {
namespace {

// A song holds a few files and locks open while it is made, and with --lazy_load until all frames are.
void allow_many_files() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// Each by itself and all together: what would be lost work, or a song that writes over another, is refused.
void check_requests(const std::vector<ResolvedRequest>& requests) {
  const CheckpointPaths checkpoint = find_checkpoint(requests.front().request.checkpoint, CheckpointParts::kAll);
  std::vector<const Request*> all;
  for (const ResolvedRequest& resolved : requests) {
    try {
      check_request(resolved.request);
    } catch (const Error& error) {
      if (resolved.name.empty()) throw;
      throw Error(error.kind(), message("{}: {}", resolved.name, error.what()));
    }
    check_outputs(resolved.request, resolved.inputs, checkpoint);
    all.push_back(&resolved.request);
  }
  check_different_outputs(all);
}

/// Of songs that are being made, those that shall be drawn.
class Pictures {
 public:
  void add(size_t song, const std::string& path) {
    if (!path.empty()) pictures_.emplace(song, path);
  }
  void hear(size_t song, std::span<const float> left, std::span<const float> right) {
    if (const auto found = pictures_.find(song); found != pictures_.end()) found->second.add(left, right);
  }
  void write(size_t song) {
    const auto found = pictures_.find(song);
    if (found == pictures_.end()) return;
    try {
      found->second.write();
    } catch (const std::exception& error) {
      spdlog::error("--spectrogram: {}", error.what());
    }
  }

 private:
  std::map<size_t, SongPicture> pictures_;
};

std::string line_of(size_t song, const SongFileResult& result) {
  if (!result.error) return song_line(result.json);
  return fmt::format("song {} ({}): {}", song + 1, escaped(result.json["request"]["save_path"].get<std::string>()),
                     result.error->what());
}

// "3 songs: 72.0 s of music in 30.1 s (real-time factor 0.42)"
std::string total_line(const std::vector<SongFileResult>& songs, double seconds) {
  int64_t made = 0;
  double music = 0;
  for (const SongFileResult& song : songs) {
    if (song.error) continue;
    ++made;
    music += song.json["result"]["duration_s"].get<double>();
  }
  if (made == 0) return "no song was made";
  return fmt::format("{} of {} songs made: {:.1f} s of music in {} (real-time factor {:.2f})", made, songs.size(),
                     music, duration_text(seconds), seconds / music);
}

/// Nothing if all songs are made.
std::optional<Error> failure_of(const SongFiles& files, const RunSettings& run) {
  const auto failed = std::ranges::count_if(files.songs, [](const SongFileResult& song) { return !!song.error; });
  if (failed == 0) return std::nullopt;
  const auto has = [&](ErrorKind kind) {
    return std::ranges::any_of(files.songs,
                               [&](const SongFileResult& song) { return song.error && song.error->kind() == kind; });
  };
  const ErrorKind kind = has(ErrorKind::kCancelled) ? ErrorKind::kCancelled
                         : has(ErrorKind::kFailure) ? ErrorKind::kFailure
                                                    : ErrorKind::kUser;
  std::string text = kind == ErrorKind::kCancelled ? "cancelled; " : "";
  text += fmt::format("{} of {} songs are not made", failed, files.songs.size());
  if (!files.unfinished.empty()) {
    text += ": go on with `heartmula generate --requests " + shell_word(files.unfinished);
    if (run.songs_at_once) text += fmt::format(" --songs_at_once {}", *run.songs_at_once);
    text += '`';
  }
  return Error(kind, text);
}

}  // namespace

int run_songs_command(const SettingFlags& flags) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<ResolvedRequest> requests = resolve_requests(flags);
  const RunSettings& run = requests.front().request.run;
  if (run.json) check_standard_output();
  check_requests(requests);
  allow_many_files();

  ProgressReporter reporter(parse_progress_mode(run.progress));
  SongsProgress progress(reporter, requests.size());
  const bool silent = reporter.mode() == ProgressMode::kNone || reporter.mode() == ProgressMode::kJson;
  std::vector<OutputLock> locks;
  const auto lock = [&](const char* flag, const std::string& path) {
    if (!path.empty() && check_writable(path) == OutputKind::kRegular) locks.emplace_back(path, flag);
  };
  lock("--profile", run.profile);
  std::optional<Profile> profile;
  if (!run.profile.empty()) profile.emplace(run.profile);
  Pictures pictures;
  std::vector<SongFileRequest> songs;
  for (const ResolvedRequest& resolved : requests) {
    lock("--spectrogram", resolved.request.run.spectrogram);
    pictures.add(songs.size(), resolved.request.run.spectrogram);
    songs.push_back({.request = resolved.request,
                     .codes = resolved.codes ? &*resolved.codes : nullptr,
                     .has_song_lock = resolved.song_lock != nullptr});
  }
  const SongFilesHooks hooks = {
      .load = [&](std::string_view stage, int64_t done, int64_t total,
                  double seconds) { reporter.report(stage, done, total, seconds); },
      .plan =
          [&](const std::string& text) {
            if (!silent) std::fprintf(stderr, "%s\n", text.c_str());
          },
      .profile = profile ? &*profile : nullptr,
      .progress = [&](size_t song, std::string_view stage, int64_t done, int64_t total,
                      double seconds) { progress.report(song, stage, done, total, seconds); },
      .has_frames = [&](size_t song, int64_t frames) { progress.has_frames(song, frames); },
      .audio = [&](size_t song, std::span<const float> left,
                   std::span<const float> right) { pictures.hear(song, left, right); },
      .over =
          [&](size_t song, const SongFileResult& result) {
            if (result.error && result.error->kind() == ErrorKind::kCancelled) return;
            if (result.error) {
              reporter.finish();
              spdlog::error(line_of(song, result));
            } else {
              pictures.write(song);
            }
            progress.is_over(song);
          },
  };
  SongFiles files;
  try {
    const std::filesystem::path list = run.goes_on ? expand_home(run.requests) : std::filesystem::path();
    files = make_song_files(songs, run.songs_at_once, list, hooks, &interrupt_token());
  } catch (...) {
    reporter.finish();
    throw;
  }
  reporter.finish();
  if (run.json) {
    nlohmann::json list = nlohmann::json::array();
    for (SongFileResult& song : files.songs) list.push_back(std::move(song.json));
    print_out(list.dump(2) + "\n");
  } else if (!silent) {
    for (size_t song = 0; song < files.songs.size(); ++song) {
      std::fprintf(stderr, "%s\n", line_of(song, files.songs[song]).c_str());
    }
    std::fprintf(stderr, "%s\n", total_line(files.songs, seconds_since(start)).c_str());
  }
  if (const std::optional<Error> failure = failure_of(files, run)) throw *failure;
  return 0;
}

}  // namespace heartmula
