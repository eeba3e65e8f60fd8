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
    outcome.passages = std::max<int64_t>(1, std::ssize(task.text->passages));
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

/// What becomes of songs whose frames are made; the three ends of SongFrames, and what goes on between two steps.
struct FramesTo {
  std::function<void(SongInWork&)> enters;
  std::function<void(SongInWork&, const Frame&)> frame;
  std::function<void(SongInWork&)> ended;
  std::function<void(SongInWork&, const std::exception_ptr&)> failed;
  /// After a step that took so many seconds for a frame of each song in the loop, if each got one, as it did in the
  /// step before. Gives the seconds that it waited.
  std::function<double(std::optional<double> seconds)> step = {};
  /// There is no song in the loop: waits for one. False if none will come.
  std::function<bool()> wait = {};
};

/// Prompts to frames: the songs enter as there is room for them.
class FrameMaker {
 public:
  FrameMaker(Models& models, SongSource& source, const SongsRoom& room, const FramesTo& to)
      : models_(models),
        source_(source),
        room_(room),
        to_(to),
        drafts_(models.drafts(room.machine)),
        batch_(std::in_place, models.lm_ops(), models.lm(),
               LmBatchSize{.songs = room.songs_at_once,
                           .streams = room.streams,
                           .positions = room.positions,
                           .frames = drafts_.frames_of_pass(),
                           .pages = room.pages}),
        loop_(std::in_place, *batch_, drafts_.controller(), room.machine.kv_swap) {}

  /// Until no song is left.
  void run() {
    int64_t before = 0;  // frames of the last step
    bool has_songs = false;
    ready_ = Clock::now();
    for (;;) {
      while (loop_->has_room()) {
        const SongWork* task = source_.next();
        if (task == nullptr) break;
        enter(songs_.emplace_back(*task, models_));
        has_songs = true;
      }
      if (!has_songs) {
        if (!to_.wait || !to_.wait()) return;
        before = 0;
        ready_ = Clock::now();
        continue;
      }
      const int64_t inside = inside_;
      made_ = 0;
      has_songs = loop_->step();
      if (room_.counts) room_.counts(loop_->room());
      const bool is_even = inside > 0 && made_ >= inside && before >= inside;
      before = made_;
      if (to_.step && made_ > 0) {
        const double share = static_cast<double>(inside) / static_cast<double>(made_);  // of a step with drafts
        paused_ += to_.step(is_even ? std::optional(share * seconds_since(ready_)) : std::nullopt);
      }
      ready_ = Clock::now();
    }
  }

  /// Gives back the memory of the frames; the songs stay.
  void release() {
    loop_.reset();
    batch_.reset();
  }

  /// Those that have entered and are not over end with this error.
  void fail_all(const std::exception_ptr& error) {
    for (SongInWork& song : songs_) {
      if (!song.is_over()) song.fail(error);
    }
  }

 private:
  void enter(SongInWork& song) {
    song.begin = ready_;
    song.paused_before = paused_;
    bool has_entered = false;
    try {
      const int64_t positions = song.task().text->context;
      if (positions > room_.positions || song.settings().sampling.streams() > room_.streams) {
        throw failure("the song does not fit into the room of {} positions", room_.positions);
      }
      to_.enters(song);
      has_entered = true;
      loop_->enter({.prompt = &song.task().text->prompt(),
                    .begin = {song.task().begin.begin(), song.task().begin.end()},
                    .settings = song.settings(),
                    .noise = &song.noise(),
                    .groups = song.settings().lossy == LossyAcceptance::kGroup ? &models_.code_groups() : nullptr,
                    .cancel = song.task().cancel,
                    .drafters = drafts_.make_drafters(models_.lm_config()),
                    .passages = song.task().text->passages,
                    .frame = [this, &song](int64_t index, const Frame& frame) { take(song, index, frame); },
                    .rests = [this, &song](bool rests) { change_rest(song, rests); },
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
    song.outcome.drafts = loop_->draft_counts();
    song.outcome.frames_seconds = seconds_since(song.begin) - (paused_ - song.paused_before);
  }

  void change_rest(SongInWork& song, bool rests) {
    const SongHooks& hooks = song.task().hooks;
    if (hooks.rests) hooks.rests(rests);
    if (!rests) return;
    ++song.outcome.rests;
    if (!hooks.progress) return;
    hooks.progress("resting", song.outcome.frames, song.settings().max_frames(),
                   seconds_since(song.begin) - (paused_ - song.paused_before));
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
  SongSource& source_;
  SongsRoom room_;
  const FramesTo& to_;
  std::deque<SongInWork> songs_;  // that have entered; never moved
  Clock::time_point ready_;       // for the step in hand
  DraftSettings drafts_;
  std::optional<LmBatch> batch_;
  std::optional<FrameLoop> loop_;
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
void make_one_model_at_a_time(Models& models, SongSource& source, const SongsRoom& room, const ProgressSink& load,
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
  FrameMaker frames(models, source, room, to);
  try {
    frames.run();
    frames.release();
    models.unload_lm();
    if (ended.empty()) return;
    load_seconds += timed_load(load, {[&] { models.codec(); }});
  } catch (...) {
    frames.fail_all(std::current_exception());
    throw;
  }
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
void make_beside(Models& models, SongSource& source, const SongsRoom& room, const ProgressSink& load,
                 const CancelToken* cancel) {
  Overlap overlap(room.machine.overlap, models.lm_ops(), models.codec_ops(), models.devices().share_cpu(), room.soon);
  const double load_seconds = timed_load(load, {[&] { models.lm(); }, [&] { models.codec(); }});
  std::optional<FrameMaker> frames;  // whose songs the codec's thread knows, too
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
      .wait =
          [&] {
            overlap.frames_ended();
            const bool more = source.wait();
            if (more) overlap.frames_begin();
            return more;
          },
  };
  std::exception_ptr broken;
  try {
    frames.emplace(models, source, room, to);
    frames->run();
    frames->release();
  } catch (...) {  // songs whose frames are all there can still be heard, unless it was a token
    broken = std::current_exception();
    for (SongInWork* song : std::exchange(in_frames, {})) codec.fail(song->in_codec, broken);
  }
  overlap.frames_ended();
  codec.join();
  if (!broken) return;
  if (frames) frames->fail_all(broken);
  std::rethrow_exception(broken);
}

class ListSource final : public SongSource {
 public:
  void add(const SongWork& task) { tasks_.push_back(&task); }

  const SongWork* next() override {
    if (tasks_.empty()) return nullptr;
    const SongWork* task = tasks_.front();
    tasks_.pop_front();
    return task;
  }
  bool wait() override { return false; }

 private:
  std::deque<const SongWork*> tasks_;
};

}  // namespace

void generate_songs(Models& models, SongSource& source, const SongsRoom& room, const ProgressSink& load,
                    const CancelToken* cancel) {
  if (models.one_at_a_time()) {
    make_one_model_at_a_time(models, source, room, load, cancel);
  } else {
    make_beside(models, source, room, load, cancel);
  }
}

void generate_songs(Models& models, std::span<const SongWork> tasks, int64_t songs_at_once, int64_t pages,
                    const ProgressSink& load, const CancelToken* cancel) {
  ListSource source;
  SongsRoom room = {.pages = pages, .soon = tasks.size() > 1};
  int64_t songs = 0;
  for (const SongWork& task : tasks) {
    try {
      const FrameLoopSettings settings = task.request->song.frame_loop(models.gen_config().audio_eos_id);
      if (settings.verification == GuessVerification::kBlock && models.draft_file() == nullptr) {
        throw user_error("--verification block needs a drafter file, and the checkpoint has none: --drafter FILE");
      }
      room.positions = std::max(room.positions, task.text->context);
      room.streams = std::max(room.streams, settings.sampling.streams());
      room.soon = room.soon || task.request->codec.windows == WindowScheme::kEarly;
      room.machine = task.request->machine;
      source.add(task);
      ++songs;
    } catch (...) {
      if (task.failed) task.failed(std::current_exception());
    }
  }
  if (songs == 0) return;
  room.songs_at_once = std::min(songs_at_once, songs);
  try {
    generate_songs(models, source, room, load, cancel);
  } catch (...) {  // those that have entered know
    while (const SongWork* task = source.next()) {
      if (task->failed) task->failed(std::current_exception());
    }
  }
}

SongOutcome generate_song(Models& models, const Request& request, const SongText& text, std::span<const Frame> begin,
                          const SongHooks& hooks, const CancelToken* cancel) {
  SongOutcome made;
  std::exception_ptr error;
  const SongWork task = {.request = &request,
                         .text = &text,
                         .begin = begin,
                         .hooks = hooks,
                         .made = [&](const SongOutcome& outcome) { made = outcome; },
                         .failed = [&](const std::exception_ptr& failed) { error = failed; }};
  generate_songs(models, {&task, 1}, 1, 0, hooks.progress, cancel);
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
