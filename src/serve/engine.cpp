#include "serve/engine.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>
#include <vector>

#include "base/error.h"
#include "song/song_job.h"

namespace heartmula {
namespace {

constexpr std::chrono::milliseconds kSavePause{250};     // codes are lost for no longer than that
constexpr std::chrono::milliseconds kLookPause{1000};    // for jobs that nobody told of
constexpr std::chrono::milliseconds kRenewalPause{500};  // of leases; whoever cancels a song waits for it
constexpr int64_t kInHand = 2;         // times the songs at once: while the codec is behind, another worker may be free
constexpr int64_t kSongsOfARun = 256;  // what is kept of songs that are over goes with the run

}  // namespace

/// Jobs of the store, one after the other, as the frame loop has room for them.
class Engine::Source final : public SongSource {
 public:
  explicit Source(Engine& engine)
      : engine_(engine), most_(engine.house_.models.one_at_a_time() ? engine.settings_.songs_at_once : kSongsOfARun) {}
  ~Source() override {
    if (waiting_) waiting_->work().failed(std::make_exception_ptr(Error(ErrorKind::kCancelled, "cancelled")));
  }
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  const SongWork* next() override {
    if (!waiting_) look();
    if (!waiting_) return nullptr;
    songs_.push_back(std::exchange(waiting_, nullptr));
    return &songs_.back()->work();
  }

  bool wait() override {
    while (may_take()) {
      look();
      if (waiting_) return true;
      std::unique_lock lock(engine_.mutex_);
      engine_.changed_.wait_for(lock, kLookPause, [&] { return engine_.stops_ || engine_.notices_ != seen_; });
    }
    return false;
  }

 private:
  bool may_take() const {
    const std::lock_guard lock(engine_.mutex_);
    return !engine_.stops_ && std::ssize(songs_) < most_;
  }

  // Between two frames: asks the store only if it was told of something, or now and then.
  void look() {
    if (!may_take() || engine_.songs_in_hand() >= kInHand * engine_.settings_.songs_at_once) return;
    const auto now = std::chrono::steady_clock::now();
    {
      const std::lock_guard lock(engine_.mutex_);
      if (engine_.notices_ == seen_ && now < next_look_) return;
      seen_ = engine_.notices_;
    }
    next_look_ = now + kLookPause;
    waiting_ = engine_.claim();
    if (waiting_) next_look_ = now;  // there may be more
  }

  Engine& engine_;
  int64_t most_;  // songs; with one model at a time their audio comes when there are no more
  std::shared_ptr<ServedSong> waiting_;
  std::vector<std::shared_ptr<ServedSong>> songs_;  // the generator's until the run is over
  uint64_t seen_ = 0;
  std::chrono::steady_clock::time_point next_look_;
};

Engine::Engine(SongHouse& house, EngineSettings settings, CancelToken& cancel, std::function<void()> broken)
    : house_(house), settings_(std::move(settings)), cancel_(cancel), broken_(std::move(broken)) {
  maker_ = std::thread([this] { run(); });
  keeper_ = std::thread([this] { keep(); });
}

Engine::~Engine() {
  {
    const std::lock_guard lock(mutex_);
    stops_ = true;
    for (const auto& song : songs_) song->stop(StopCause::kShutdown);
  }
  cancel_.cancel();
  changed_.notify_all();
  maker_.join();
  keeper_.join();
}

EngineStatus Engine::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

int64_t Engine::songs_in_hand() const {
  const std::lock_guard lock(mutex_);
  return std::ranges::count_if(songs_, [](const auto& song) { return !song->is_over(); });
}

void Engine::set_status(const EngineStatus& status) {
  const std::lock_guard lock(mutex_);
  status_ = status;
}

void Engine::notice(const std::string& id) {
  {
    const std::lock_guard lock(mutex_);
    if (std::ranges::any_of(songs_, [&](const auto& song) { return song->lease().id == id; })) return;
    ++notices_;
  }
  changed_.notify_all();
}

void Engine::run() {
  try {
    load();
    set_status({.state = EngineStatus::State::kReady, .progress = 1, .error = {}});
    while (!cancel_.cancelled()) make_songs();
  } catch (...) {
    const Error error = as_error(std::current_exception());
    if (error.kind() == ErrorKind::kCancelled) return;
    set_status({.state = EngineStatus::State::kFailed, .progress = 0, .error = error.what()});
    broken_();
  }
}

void Engine::load() {
  Models& models = house_.models;
  models.lm_identity();  // from here on only read, by several threads
  models.codec_identity();
  if (models.one_at_a_time()) return;
  models.lm();
  set_status({.state = EngineStatus::State::kLoading, .progress = 0.6, .error = {}});
  models.codec();
}

void Engine::make_songs() {
  Source source(*this);
  if (!source.wait()) return;
  const SongsRoom room = {.songs_at_once = settings_.songs_at_once,
                          .streams = 2,
                          .positions = settings_.positions,
                          .pages = settings_.pages,
                          .machine = house_.models.options().machine,
                          .soon = true,
                          .counts = [this](const RoomCounts& counts) { house_.metrics.set_room(counts); }};
  generate_songs(house_.models, source, room, {}, &cancel_);
}

// A job to be made now, or null. One that cannot be made fails.
std::shared_ptr<ServedSong> Engine::claim() {
  renew_leases();  // or a computer that slept would take its own songs for another's
  try {
    while (const std::optional<Lease> lease = house_.store.claim(settings_.worker, settings_.lease_ms)) {
      const std::optional<Job> job = house_.store.find(lease->id);
      if (!job) continue;
      try {
        auto song = std::make_shared<ServedSong>(house_, *job, *lease);
        const std::lock_guard lock(mutex_);
        songs_.push_back(song);
        return song;
      } catch (const std::exception&) {
        const Error error = as_error(std::current_exception());
        if (house_.store.fail(*lease, error.what())) house_.metrics.add_song(JobState::kFailed, 0, 0);
      }
    }
  } catch (const std::exception& error) {  // the database may be back in a while
    spdlog::error(error.what());
  }
  return nullptr;
}

// Until the engine is gone: what was made is saved, and the leases stay valid.
void Engine::keep() {
  auto next_renewal = std::chrono::steady_clock::now() + kRenewalPause;
  std::unique_lock lock(mutex_);
  while (!stops_) {
    changed_.wait_for(lock, kSavePause, [&] { return stops_; });
    std::erase_if(songs_, [](const auto& song) { return song->is_over(); });
    lock.unlock();
    save_songs();
    if (std::chrono::steady_clock::now() >= next_renewal) {
      renew_leases();
      next_renewal = std::chrono::steady_clock::now() + kRenewalPause;
    }
    lock.lock();
  }
}

void Engine::save_songs() {
  std::vector<std::shared_ptr<ServedSong>> songs;
  {
    const std::lock_guard lock(mutex_);
    songs.assign(songs_.begin(), songs_.end());
  }
  house_.metrics.set_in_batch(std::ssize(songs));
  for (const auto& song : songs) {
    try {
      if (!song->is_over()) song->save();
    } catch (const std::exception& error) {
      spdlog::error("song {}: {}", song->lease().id, error.what());
    }
  }
}

void Engine::renew_leases() {
  std::vector<Lease> leases;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& song : songs_) {
      if (!song->is_over()) leases.push_back(song->lease());
    }
  }
  if (leases.empty()) return;
  Renewal renewal;
  try {
    renewal = house_.store.renew(leases, settings_.lease_ms);
  } catch (const std::exception& error) {
    spdlog::error(error.what());
    return;
  }
  const std::lock_guard lock(mutex_);
  const auto stop = [this](const std::vector<Lease>& of, StopCause cause) {
    for (const auto& song : songs_) {
      const auto is_this = [&](const Lease& lease) { return lease.id == song->lease().id; };
      if (std::ranges::any_of(of, is_this)) song->stop(cause);
    }
  };
  stop(renewal.lost, StopCause::kLost);
  stop(renewal.cancel_requested, StopCause::kUser);
}

}  // namespace heartmula
