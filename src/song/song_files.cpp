#include "song/song_files.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <exception>
#include <memory>
#include <set>
#include <utility>

#include "base/message.h"
#include "song/song_job.h"
#include "song/song_result.h"
#include "song/songs_plan.h"
#include "song/unfinished_songs.h"

namespace heartmula {
namespace {

/// The songs of one call.
class SongFileMaker {
 public:
  SongFileMaker(const std::vector<SongFileRequest>& requests, const SongFilesHooks& hooks, const CancelToken* cancel)
      : requests_(requests), hooks_(hooks), cancel_(cancel), jobs_(requests.size()) {
    const Request& first = requests.front().request;
    models_ = std::make_unique<Models>(
        ModelOptions{.checkpoint = first.checkpoint, .machine = first.machine, .profile = hooks.profile},
        CheckpointParts::kAll, cancel);
    files_.songs.resize(requests.size());
  }

  SongFiles make(const std::optional<int64_t>& songs_at_once, const std::filesystem::path& going_on) {
    std::vector<SongSize> sizes;
    for (size_t song = 0; song < requests_.size(); ++song) {
      prepare(song);
      if (jobs_[song]) sizes.push_back(jobs_[song]->size());
    }
    if (sizes.empty()) return std::move(files_);
    const SongsPlan plan = checked_plan(sizes, songs_at_once);
    begin_list(going_on);
    std::vector<SongWork> tasks;
    for (size_t song = 0; song < requests_.size(); ++song) {
      if (jobs_[song]) tasks.push_back(task(song, plan.memory));
    }
    generate_songs(*models_, tasks, plan.memory.songs, plan.memory.pages, hooks_.load, cancel_);
    if (list_->close() > 0) files_.unfinished = list_->path().string();
    return std::move(files_);
  }

 private:
  // What can be known of it before the work. A song that cannot be made is over.
  void prepare(size_t song) {
    SongFileRequest request = requests_[song];
    if (!request.request.song.seed) request.request.song.seed = random_seed();
    files_.songs[song].json = {{"request", to_json(request.request)}};
    try {
      validate(request.request);
      check_writable(request.request.output.save_path);
      jobs_[song] = std::make_unique<SongJob>(request.request, *models_, settings(song));
      files_.songs[song].json["request"] = to_json(jobs_[song]->request());
    } catch (const std::exception&) {
      jobs_[song].reset();
      fail(song, std::current_exception());
    }
  }

  SongJobSettings settings(size_t song) {
    SongJobSettings settings = {.profile = hooks_.profile,
                                .codes = requests_[song].codes,
                                .has_song_lock = requests_[song].has_song_lock,
                                .cancel = cancel_,
                                .told = &told_,
                                .start = start_};
    if (hooks_.progress) {
      settings.progress = [this, song](std::string_view stage, int64_t done, int64_t total, double seconds) {
        hooks_.progress(song, stage, done, total, seconds);
      };
    }
    if (hooks_.audio) {
      settings.audio = [this, song](std::span<const float> left, std::span<const float> right) {
        hooks_.audio(song, left, right);
      };
    }
    return settings;
  }

  SongsPlan checked_plan(std::span<const SongSize> sizes, const std::optional<int64_t>& songs_at_once) {
    SongsPlan plan = plan_songs(*models_, sizes, songs_at_once);
    if (!plan.note.empty()) spdlog::warn(plan.note);
    if (hooks_.plan) hooks_.plan(describe(plan.memory, plan.available));
    check_plan(*models_, plan, sizes);
    for (const auto& job : jobs_) {
      if (job && plan.saving) job->save_memory(*plan.saving, plan.note);
    }
    return plan;
  }

  void begin_list(const std::filesystem::path& going_on) {
    for (size_t song = 0; song < jobs_.size(); ++song) {
      if (!jobs_[song]) continue;
      if (!list_) {
        const std::filesystem::path beside = jobs_[song]->request().output.save_path + ".unfinished.jsonl";
        list_.emplace(going_on.empty() ? beside : going_on, !going_on.empty());
      }
      list_->add(song, jobs_[song]->going_on());
    }
    list_->write();
  }

  SongWork task(size_t song, const MemoryPlan& plan) {
    SongJob& job = *jobs_[song];
    SongHooks hooks = job.hooks();
    hooks.frame = [this, song, &job, keep = hooks.frame, has_begun = false](int64_t index, const Frame& frame) mutable {
      keep(index, frame);
      if (!std::exchange(has_begun, true)) list_->has_begun(song, job.going_on());
    };
    if (hooks_.has_frames) hooks.has_frames = [this, song](int64_t frames) { hooks_.has_frames(song, frames); };
    return {.request = &job.request(),
            .text = &job.text(),
            .begin = job.begin(),
            .hooks = std::move(hooks),
            .enters =
                [&job, plan] {
                  job.open_output();
                  job.open_codes(plan);
                },
            .made =
                [this, song, &job](const SongOutcome& outcome) {
                  files_.songs[song].json = job.finish(outcome);
                  list_->is_made(song);
                  job.close();
                  tell(song);
                },
            .failed = [this, song](const std::exception_ptr& error) { fail(song, error); }};
  }

  void fail(size_t song, const std::exception_ptr& exception) {
    const Error error = as_error(exception);
    const bool is_cancelled = error.kind() == ErrorKind::kCancelled;
    SongFileResult& result = files_.songs[song];
    result.error = error;
    result.json["error"] = error.what();
    SongJob* job = jobs_[song].get();
    const std::optional<KeptCodes> kept = job == nullptr ? std::nullopt : job->kept();
    if (kept) {
      result.error = Error(error.kind(), message("{}; {} frames ({:.1f} s) are in {}", error.what(), kept->frames,
                                                 static_cast<double>(kept->frames) * kFrameSeconds, kept->path));
      try {
        if (const auto json = job->give_up(is_cancelled)) result.json = *json;
      } catch (const std::exception&) {  // why the song ended matters more, and the codes on the disk are whole
      }
    }
    if (job != nullptr) job->close();
    tell(song);
  }

  // Whether anybody hears of it is no reason to end a song.
  void tell(size_t song) {
    try {
      if (hooks_.over) hooks_.over(song, files_.songs[song]);
    } catch (const std::exception& error) {
      spdlog::error(error.what());
    }
  }

  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  const std::vector<SongFileRequest>& requests_;
  const SongFilesHooks& hooks_;
  const CancelToken* cancel_;
  std::unique_ptr<Models> models_;
  std::vector<std::unique_ptr<SongJob>> jobs_;  // null of songs that cannot be made
  std::set<std::string> told_;                  // notes of all songs
  std::optional<UnfinishedSongs> list_;
  SongFiles files_;
};

}  // namespace

SongFiles make_song_files(const std::vector<SongFileRequest>& requests, const std::optional<int64_t>& songs_at_once,
                          const std::filesystem::path& going_on, const SongFilesHooks& hooks,
                          const CancelToken* cancel) {
  if (requests.empty()) return {};
  return SongFileMaker(requests, hooks, cancel).make(songs_at_once, going_on);
}

}  // namespace heartmula
