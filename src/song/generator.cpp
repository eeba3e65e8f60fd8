#include "song/generator.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "song/codec_stage.h"
#include "song/codec_thread.h"
#include "song/overlap.h"

namespace heartmula {
namespace {

using Clock = std::chrono::steady_clock;

/// A song on its way.
class SongInWork {
 public:
  SongInWork(const SongWork& task, const Models& models)
      : task_(task),
        settings_(task.request->song.frame_loop(models.gen_config().audio_eos_id)),
        noise_(*task.request->song.seed) {
    outcome.frames = static_cast<int64_t>(task.begin.size());
  }

  const SongWork& task() const { return task_; }
  const FrameLoopSettings& settings() const { return settings_; }
  const PhiloxNoise& noise() const { return noise_; }
  bool is_over() const { return is_over_; }

  void make() {
    try {
      if (task_.made) task_.made(outcome);
      is_over_ = true;
    } catch (...) {
      fail(std::current_exception());
    }
  }
  void fail(const std::exception_ptr& error) {
    is_over_ = true;
    if (task_.failed) task_.failed(error);
  }

  SongOutcome outcome;
  std::vector<Frame> frames;  // all so far, where the codec comes later
  size_t in_codec = 0;        // its number there, where the codec works beside
  Clock::time_point begin;    // of its frames
  double paused_before = 0;   // of the frame loop, when it entered

 private:
  const SongWork& task_;
  FrameLoopSettings settings_;
  PhiloxNoise noise_;
  bool is_over_ = false;
};

using Songs = std::vector<SongInWork*>;

/// What becomes of songs whose frames are made; the three ends of SongFrames, and what goes on between two steps.
struct FramesTo {
  std::function<void(SongInWork&)> enters;
  std::function<void(SongInWork&, const Frame&)> frame;
  std::function<void(SongInWork&)> ended;
  std::function<void(SongInWork&, const std::exception_ptr&)> failed;
  /// After a step that took so many seconds for a frame of each song in the loop, if each got one, as it did in the
  /// step before. Gives the seconds that it waited.
  std::function<double(std::optional<double> seconds)> step = {};
};

/// Prompts to frames: the songs enter as there is room for them.
class FrameMaker {
 public:
  FrameMaker(Models& models, const Songs& songs, int64_t songs_at_once, const FramesTo& to)
      : models_(models),
        songs_(songs),
        to_(to),
        ready_(Clock::now()),
        drafts_(songs.front()->task().request->machine.drafts()),
        batch_(models.lm_ops(), models.lm(), size_of(models, songs, songs_at_once, drafts_)),
        loop_(batch_, drafts_.controller()) {}

  /// Until no song is left.
  void run() {
    int64_t before = 0;  // frames of the last step
    for (bool more = true; more || next_ < songs_.size();) {
      while (next_ < songs_.size() && loop_.has_room()) enter(*songs_[next_++]);
      const int64_t inside = inside_;
      made_ = 0;
      more = loop_.step();
      const bool is_even = inside > 0 && made_ >= inside && before >= inside;
      before = made_;
      if (to_.step && made_ > 0) {
        const double share = static_cast<double>(inside) / static_cast<double>(made_);  // of a step with drafts
        paused_ += to_.step(is_even ? std::optional(share * seconds_since(ready_)) : std::nullopt);
      }
      ready_ = Clock::now();
    }
  }

 private:
  static LmBatchSize size_of(Models& models, const Songs& songs, int64_t songs_at_once, const DraftSettings& drafts) {
    LmBatchSize size = {.songs = std::min(songs_at_once, std::ssize(songs)),
                        .streams = 1,
                        .positions = 1,
                        .frames = drafts.frames_of_pass()};
    for (const SongInWork* song : songs) {
      size.streams = std::max(size.streams, song->settings().sampling.streams());
      size.positions =
          std::max(size.positions, required_context(models.lm_config(), *song->task().prompt, song->settings()));
    }
    return size;
  }

  void enter(SongInWork& song) {
    song.begin = ready_;
    song.paused_before = paused_;
    bool has_entered = false;
    try {
      to_.enters(song);
      has_entered = true;
      loop_.enter({.prompt = song.task().prompt,
                   .begin = {song.task().begin.begin(), song.task().begin.end()},
                   .settings = song.settings(),
                   .noise = &song.noise(),
                   .cancel = song.task().cancel,
                   .drafters = drafts_.make_drafters(models_.lm_config()),
                   .frame = [this, &song](int64_t index, const Frame& frame) { take(song, index, frame); },
                   .ended =
                       [this, &song](StopReason reason) {
                         song.outcome.stop_reason = reason;
                         leaves(song);
                         const auto& told = song.task().hooks.has_frames;
                         if (told) told(song.outcome.frames);
                         to_.ended(song);
                       },
                   .failed =
                       [this, &song](const std::exception_ptr& error) {
                         leaves(song);
                         to_.failed(song, error);
                       }});
      ++inside_;
    } catch (...) {
      if (has_entered) {
        to_.failed(song, std::current_exception());
      } else {
        song.fail(std::current_exception());
      }
    }
  }

  void leaves(SongInWork& song) {
    --inside_;
    song.outcome.drafts = loop_.draft_counts();
    song.outcome.frames_seconds = seconds_since(song.begin) - (paused_ - song.paused_before);
  }

  void take(SongInWork& song, int64_t index, const Frame& frame) {
    const SongHooks& hooks = song.task().hooks;
    song.outcome.frames = index + 1;
    ++song.outcome.new_frames;
    ++made_;
    if (all_made_++ % kEmbeddingFrames == 0) models_.release_embeddings();
    if (hooks.frame) hooks.frame(index, frame);
    if (hooks.progress) {
      hooks.progress("frames", index + 1, song.settings().max_frames(),
                     seconds_since(song.begin) - (paused_ - song.paused_before));
    }
    to_.frame(song, frame);
  }

  Models& models_;
  const Songs& songs_;
  const FramesTo& to_;
  Clock::time_point ready_;  // for the step in hand
  DraftSettings drafts_;
  LmBatch batch_;
  FrameLoop loop_;
  size_t next_ = 0;       // song to enter
  int64_t inside_ = 0;    // songs in the loop
  int64_t made_ = 0;      // frames in the step in hand
  int64_t all_made_ = 0;  // frames of all songs
  double paused_ = 0;     // seconds, while the codec had all threads
};

// Loads models one after another; gives how long it took.
double timed_load(const ProgressSink& progress, const std::vector<std::function<void()>>& loads) {
  const Clock::time_point begin = Clock::now();
  const auto total = static_cast<int64_t>(loads.size());
  if (progress) progress("load", 0, total, 0);
  for (int64_t done = 0; done < total; ++done) {
    loads[static_cast<size_t>(done)]();
    if (progress) progress("load", done + 1, total, seconds_since(begin));
  }
  return seconds_since(begin);
}

void check_cancelled(const CancelToken* cancel) {
  if (cancel != nullptr && cancel->cancelled()) throw Error(ErrorKind::kCancelled, "cancelled");
}

// The frames of all songs, then the audio of one after the other.
void make_one_model_at_a_time(Models& models, const Songs& songs, int64_t songs_at_once, const ProgressSink& load,
                              const CancelToken* cancel) {
  models.unload_codec();
  double load_seconds = timed_load(load, {[&] { models.lm(); }});
  std::vector<SongInWork*> ended;
  const FramesTo to = {
      .enters =
          [](SongInWork& song) {
            if (song.task().enters) song.task().enters();
            song.frames.assign(song.task().begin.begin(), song.task().begin.end());
          },
      .frame = [](SongInWork& song, const Frame& frame) { song.frames.push_back(frame); },
      .ended = [&](SongInWork& song) { ended.push_back(&song); },
      .failed = [](SongInWork& song, const std::exception_ptr& error) { song.fail(error); },
  };
  FrameMaker(models, songs, songs_at_once, to).run();
  models.unload_lm();
  if (ended.empty()) return;
  load_seconds += timed_load(load, {[&] { models.codec(); }});
  for (SongInWork* song : ended) {
    try {
      check_cancelled(cancel);
      CodecStage stage(models, *song->task().request, song->task().hooks, std::max<int64_t>(song->outcome.frames, 1));
      stage.set_between_pieces([song] { check_cancelled(song->task().cancel); });
      stage.push(std::exchange(song->frames, {}));
      stage.finish();
      song->outcome.load_seconds = load_seconds;
      song->outcome.codec_seconds = stage.seconds();
      song->outcome.dropped_codes = stage.dropped_codes();
    } catch (...) {
      song->fail(std::current_exception());
      continue;
    }
    song->make();
  }
}

// Frames, and beside them the audio of what there is of frames.
void make_beside(Models& models, const Songs& songs, int64_t songs_at_once, const ProgressSink& load,
                 const CancelToken* cancel) {
  const MachineSettings& machine = songs.front()->task().request->machine;
  // Of several songs, finished ones shall come out while others are made: as soon as windows that shall be heard soon.
  const bool soon = songs.size() > 1 || songs.front()->task().request->codec.windows == WindowScheme::kEarly;
  Overlap overlap(machine.overlap, models.lm_ops(), models.codec_ops(), models.devices().share_cpu(), soon);
  const double load_seconds = timed_load(load, {[&] { models.lm(); }, [&] { models.codec(); }});
  CodecThread codec(models, overlap, cancel);
  std::vector<SongInWork*> in_frames;
  const auto leave = [&](SongInWork& song) { std::erase(in_frames, &song); };
  const FramesTo to = {
      .enters =
          [&](SongInWork& song) {
            if (song.task().enters) song.task().enters();
            const CodecJob job = {.request = song.task().request,
                                  .hooks = &song.task().hooks,
                                  .cancel = song.task().cancel,
                                  .decoded =
                                      [&](double seconds, int64_t dropped_codes) {
                                        song.outcome.load_seconds = load_seconds;
                                        song.outcome.codec_seconds = seconds;
                                        song.outcome.dropped_codes = dropped_codes;
                                        song.outcome.overlap_threads = overlap.codec_threads();
                                        song.outcome.overlap_gain = overlap.gain();
                                        song.make();
                                      },
                                  .failed = [&](const std::exception_ptr& error) { song.fail(error); }};
            song.in_codec = codec.enter(job, song.task().begin);
            in_frames.push_back(&song);
          },
      .frame = [&](SongInWork& song, const Frame& frame) { codec.push(song.in_codec, frame); },
      .ended =
          [&](SongInWork& song) {
            leave(song);
            codec.end(song.in_codec, song.outcome.frames);
          },
      .failed =
          [&](SongInWork& song, const std::exception_ptr& error) {
            leave(song);
            codec.fail(song.in_codec, error);
          },
      .step = [&](std::optional<double> seconds) { return overlap.frame_done(seconds, cancel); },
  };
  std::exception_ptr broken;
  try {
    FrameMaker(models, songs, songs_at_once, to).run();
  } catch (...) {  // songs whose frames are all there can still be heard, unless it was a token
    broken = std::current_exception();
    for (SongInWork* song : std::exchange(in_frames, {})) codec.fail(song->in_codec, broken);
  }
  overlap.frames_ended();
  codec.join();
  if (broken) std::rethrow_exception(broken);
}

}  // namespace

void generate_songs(Models& models, std::span<const SongWork> tasks, int64_t songs_at_once, const ProgressSink& load,
                    const CancelToken* cancel) {
  std::deque<SongInWork> all;
  Songs songs;  // that can be made
  for (const SongWork& task : tasks) {
    SongInWork& song = all.emplace_back(task, models);
    try {
      required_context(models.lm_config(), *task.prompt, song.settings());
      songs.push_back(&song);
    } catch (...) {
      song.fail(std::current_exception());
    }
  }
  if (songs.empty()) return;
  try {
    if (models.one_at_a_time()) {
      make_one_model_at_a_time(models, songs, songs_at_once, load, cancel);
    } else {
      make_beside(models, songs, songs_at_once, load, cancel);
    }
  } catch (...) {
    for (SongInWork* song : songs) {
      if (!song->is_over()) song->fail(std::current_exception());
    }
  }
}

SongOutcome generate_song(Models& models, const Request& request, const Prompt& prompt, std::span<const Frame> begin,
                          const SongHooks& hooks, const CancelToken* cancel) {
  SongOutcome made;
  std::exception_ptr error;
  const SongWork task = {.request = &request,
                         .prompt = &prompt,
                         .begin = begin,
                         .hooks = hooks,
                         .made = [&](const SongOutcome& outcome) { made = outcome; },
                         .failed = [&](const std::exception_ptr& failed) { error = failed; }};
  generate_songs(models, {&task, 1}, 1, hooks.progress, cancel);
  if (error) std::rethrow_exception(error);
  return made;
}

SongOutcome decode_song(Models& models, const Request& request, std::span<const Frame> frames, const SongHooks& hooks) {
  SongOutcome outcome;
  outcome.frames = static_cast<int64_t>(frames.size());
  outcome.load_seconds = timed_load(hooks.progress, {[&] { models.codec(); }});
  CodecStage stage(models, request, hooks, std::max<int64_t>(outcome.frames, 1));
  stage.push(frames);
  stage.finish();
  outcome.codec_seconds = stage.seconds();
  outcome.dropped_codes = stage.dropped_codes();
  return outcome;
}

}  // namespace heartmula
