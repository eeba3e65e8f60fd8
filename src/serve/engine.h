// The thread that makes songs: a batch that jobs enter and leave.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "serve/served_song.h"

namespace heartmula {

struct EngineSettings {
  int64_t songs_at_once = 1;
  int64_t pages = 0;      // LmBatchSize::pages
  int64_t positions = 1;  // of the longest song that may come
  std::string worker;     // a name that no other has, new at each start
  int64_t lease_ms = 0;
};

struct EngineStatus {
  enum class State : uint8_t { kLoading, kReady, kFailed };
  State state = State::kLoading;
  double progress = 0;  // of loading
  std::string error;    // of a failure
};

class Engine {
 public:
  /// Begins to load the models, then makes what the store has for it. All must outlive the engine; `cancel` is the
  /// token that the models were opened with. `broken` is called once, from a thread of the engine's, if no song can be
  /// made any more.
  Engine(SongHouse& house, EngineSettings settings, CancelToken& cancel, std::function<void()> broken);
  /// Gives the songs in work back, with all of their frames.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  EngineStatus status() const;
  /// This job changed: it may be one to be made. An empty id: any may have changed.
  void notice(const std::string& id);

 private:
  class Source;

  void run();
  void load();
  void make_songs();
  void keep();
  void save_songs();
  void renew_leases();
  std::shared_ptr<ServedSong> claim();
  int64_t songs_in_hand() const;
  void set_status(const EngineStatus& status);

  SongHouse& house_;
  EngineSettings settings_;
  CancelToken& cancel_;
  std::function<void()> broken_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  EngineStatus status_;
  uint64_t notices_ = 0;
  bool stops_ = false;
  std::deque<std::shared_ptr<ServedSong>> songs_;  // that have not ended

  std::thread maker_;
  std::thread keeper_;
};

}  // namespace heartmula
