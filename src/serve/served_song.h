// A job in the hands of this process: from its row in the database to the song on the shelf.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/memory_plan.h"
#include "serve/audio_shelf.h"
#include "serve/job_store.h"
#include "serve/live_audio.h"
#include "serve/metrics.h"
#include "song/generator.h"
#include "song/song_output.h"

namespace heartmula {

/// What songs of one server share; all must outlive them.
struct SongHouse {
  Models& models;
  JobStore& store;
  AudioShelf& shelf;
  Metrics& metrics;
  MemoryPlan plan;
};

/// Why a song is stopped before its end.
enum class StopCause : uint8_t {
  kNone,
  kUser,      // who asked for it wants it no more
  kShutdown,  // it goes on after the next start, or elsewhere
  kLost,      // another worker has it
};

class ServedSong {
 public:
  /// Reads what the job says, and the frames that are made of it. Throws Error if there is no making it.
  ServedSong(SongHouse& house, const Job& job, Lease lease);
  ServedSong(const ServedSong&) = delete;
  ServedSong& operator=(const ServedSong&) = delete;

  const SongWork& work() const { return work_; }
  const Lease& lease() const { return lease_; }
  /// Its last call came: nothing of it is of use any more.
  bool is_over() const { return is_over_; }

  /// From any thread; the first cause counts.
  void stop(StopCause cause);
  /// Brings new frames and progress to the database, from any thread. Throws Error(kFailure) if that failed: what was
  /// to be saved is still there for the next time.
  void save();

 private:
  using Clock = std::chrono::steady_clock;

  void open();
  void take_frame(const Frame& frame);
  void take_audio(std::span<const float> left, std::span<const float> right);
  void take_progress(std::string_view stage, int64_t done, int64_t total, double seconds);
  void take_end_of_frames();
  void update_progress();
  void change_rest(bool rests);
  void begin_codec();
  void finish(const SongOutcome& outcome);
  void end(const std::exception_ptr& exception);
  void close();
  void save_frames(std::unique_lock<std::mutex>& lock);

  SongHouse& house_;
  Lease lease_;
  int64_t created_ms_;
  Request request_;
  SongText text_;
  std::vector<Frame> begin_;
  std::string fingerprint_;
  CancelToken cancel_;
  std::atomic<StopCause> cause_{StopCause::kNone};
  std::atomic<bool> is_over_{false};
  SongWork work_;
  Clock::time_point start_ = Clock::now();
  std::optional<SongOutput> output_;
  std::optional<LiveAudioWriter> live_;
  std::vector<float> peaks_;  // of kPeakSamples each
  float peak_ = 0;            // of the one that is not full
  int64_t samples_ = 0;

  std::mutex saving_;  // one save at a time; the frames of a song are in order
  std::mutex mutex_;   // what the two threads of the song tell
  std::vector<Frame> unsaved_;
  int64_t saved_ = 0;  // frames in the database
  JobProgress progress_;
  double frame_seconds_ = 0;  // of one, lately
  int64_t frames_left_ = 0;
  double codec_seconds_ = 0;  // of a part of its work
  int64_t codec_parts_ = 0;   // of its work
  int64_t codec_done_ = 0;
  bool codec_has_begun_ = false;
  bool has_news_ = true;
};

}  // namespace heartmula
