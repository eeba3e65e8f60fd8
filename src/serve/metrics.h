// What Prometheus scrapes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "decode/frame_loop.h"
#include "serve/job_store.h"

namespace heartmula {

class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void count_request(const std::string& method, const std::string& route, int status);
  void add_frames(int64_t frames);
  /// Of a song that this process is done with; all in seconds. `work_s`: from its first moment here.
  void add_song(JobState end, double work_s, double audio_s);
  /// From the time that the song was asked for to its first samples.
  void add_first_audio(double seconds);
  void set_in_batch(int64_t songs);
  /// The cache of keys and values, and the songs that rest without.
  void set_room(const RoomCounts& room);

  /// Mean seconds of work of a song so far; 0 before the first.
  double mean_song_seconds() const;

  /// In Prometheus' text format, with what the database knows now.
  std::string text(const std::map<JobState, int64_t>& jobs) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace heartmula
