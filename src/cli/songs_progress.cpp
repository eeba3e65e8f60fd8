#include "cli/songs_progress.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

namespace heartmula {
namespace {

constexpr int64_t kParts = 1000;  // of a song in the codec

}  // namespace

SongsProgress::SongsProgress(ProgressReporter& reporter, size_t songs, std::function<Clock::time_point()> now)
    : reporter_(reporter), now_(std::move(now)), songs_(songs), begin_(now_()) {}

double SongsProgress::seconds() const {
  return std::chrono::duration<double>(now_() - begin_).count();
}

void SongsProgress::report(size_t number, std::string_view stage, int64_t done, int64_t total, double seconds) {
  if (reporter_.mode() == ProgressMode::kJson) return reporter_.report(stage, done, total, seconds, number + 1);
  const std::lock_guard lock(mutex_);
  if (!std::exchange(has_begun_, true))
    begin_ = now_() - std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  Song& song = songs_[number];
  if (stage == "frames") {
    if (song.most < 0) song.kept = done - 1;
    song.frames = done;
    song.most = total;
    report_frames();
  } else if (stage == "codec") {
    song.decoded = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0;
    report_codec();
  }
}

void SongsProgress::has_frames(size_t number, int64_t frames) {
  if (reporter_.mode() == ProgressMode::kJson) return;
  const std::lock_guard lock(mutex_);
  songs_[number].most = songs_[number].frames = frames;
  report_frames();
}

void SongsProgress::is_over(size_t number) {
  const std::lock_guard lock(mutex_);
  Song& song = songs_[number];
  song.over = true;
  song.most = song.frames;
  song.decoded = 1;
  const auto over = std::ranges::count_if(songs_, [](const Song& other) { return other.over; });
  if (reporter_.mode() != ProgressMode::kJson && has_begun_) {
    report_frames();
    report_codec();
  }
  reporter_.report("songs", over, std::ssize(songs_), seconds());
}

// A song that has not begun counts as much as the others do on average.
void SongsProgress::report_frames() {
  int64_t done = 0;
  int64_t most = 0;
  int64_t known = 0;
  for (const Song& song : songs_) {
    if (song.most < 0) continue;
    done += song.frames - song.kept;
    most += song.most - song.kept;
    ++known;
  }
  if (known == 0 || most == 0) return;
  tell("frames", done, most + most * (std::ssize(songs_) - known) / known, frames_told_);
}

void SongsProgress::report_codec() {
  double decoded = 0;
  for (const Song& song : songs_) decoded += song.decoded;
  tell("codec", static_cast<int64_t>(decoded * kParts), kParts * std::ssize(songs_), codec_told_);
}

// What is told again is taken for a stage that begins again.
void SongsProgress::tell(std::string_view stage, int64_t done, int64_t total, Told& told) {
  if (told == Told(done, total)) return;
  told = {done, total};
  reporter_.report(stage, done, total, seconds());
}

}  // namespace heartmula
