#include "cli/song_command.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/output_lock.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/song_summary.h"
#include "measure/song_picture.h"

namespace heartmula {
namespace {

/// The song is on the disk by now: it is not lost with its picture. An error, for no --progress hides those.
void write_picture(SongPicture& picture) {
  try {
    picture.write();
  } catch (const std::exception& error) {
    spdlog::error("--spectrogram: {}", error.what());
  }
}

}  // namespace

int run_song_command(const ResolvedRequest& resolved, CheckpointParts parts, MakeSong make) {
  const Request& request = resolved.request;
  std::error_code ignored;
  const std::filesystem::path song = request.output.save_path;
  const bool is_standard_output =
      output_descriptor(song) == STDOUT_FILENO || std::filesystem::equivalent(song, "/dev/stdout", ignored);
  if (request.run.json && is_standard_output) {
    throw user_error("--json prints on standard output, and --save_path {} puts the song there: choose one",
                     request.output.save_path);
  }
  if (request.run.json) check_standard_output();
  validate(request);
  check_outputs(request, resolved.inputs, find_checkpoint(request.checkpoint, parts));
  ProgressReporter reporter(parse_progress_mode(request.run.progress));
  const bool silent = reporter.mode() == ProgressMode::kNone || reporter.mode() == ProgressMode::kJson;
  std::vector<OutputLock> locks;
  for (const auto& [flag, path] :
       {std::pair("--profile", request.run.profile), std::pair("--spectrogram", request.run.spectrogram)}) {
    if (!path.empty() && check_writable(path) == OutputKind::kRegular) locks.emplace_back(path, flag);
  }
  std::optional<Profile> profile;
  if (!request.run.profile.empty()) profile.emplace(request.run.profile);
  std::optional<SongPicture> picture;
  if (!request.run.spectrogram.empty()) picture.emplace(request.run.spectrogram);
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
            if (request.run.json) print_out(cancelled.dump(2) + "\n");
          },
      .audio =
          [&](std::span<const float> left, std::span<const float> right) {
            if (picture) picture->add(left, right);
          },
      .codes = resolved.codes ? &*resolved.codes : nullptr,
      .has_song_lock = resolved.song_lock != nullptr,
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
  if (request.run.json) {
    print_out(json.dump(2) + "\n");
  } else if (!silent) {
    std::fprintf(stderr, "%s\n", song_summary(json).c_str());
  }
  return 0;
}

}  // namespace heartmula
