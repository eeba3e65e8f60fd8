// How far many songs are: to people one piece of work, to programs each song by itself.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/progress.h"

namespace heartmula {

/// Thread-safe. Songs are counted from 0.
class SongsProgress {
 public:
  using Clock = ProgressReporter::Clock;

  SongsProgress(ProgressReporter& reporter, size_t songs, std::function<Clock::time_point()> now = Clock::now);

  /// As ProgressReporter::report(), of this song.
  void report(size_t number, std::string_view stage, int64_t done, int64_t total, double seconds);
  /// It has so many frames.
  void has_frames(size_t number, int64_t frames);
  /// It is made, or given up.
  void is_over(size_t number);

 private:
  struct Song {
    int64_t frames = 0;
    int64_t kept = 0;    // of them, from an earlier run
    int64_t most = -1;   // frames that it may have; not known before the first one
    double decoded = 0;  // from 0 to 1
    bool over = false;
  };

  using Told = std::pair<int64_t, int64_t>;  // done, total

  void report_frames();
  void report_codec();
  void tell(std::string_view stage, int64_t done, int64_t total, Told& told);
  double seconds() const;

  ProgressReporter& reporter_;
  std::function<Clock::time_point()> now_;
  std::mutex mutex_;
  std::vector<Song> songs_;
  Clock::time_point begin_;
  bool has_begun_ = false;
  Told frames_told_;
  Told codec_told_;
};

}  // namespace heartmula
