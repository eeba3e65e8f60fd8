#include "song/generator.h"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "base/error.h"
#include "song/overlap.h"

namespace heartmula {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// The codec's half: takes frames, hands on samples.
class CodecStage {
 public:
  CodecStage(Models& models, const Request& request, const SongHooks& hooks)
      : noise_(*request.seed),
        settings_(request.codec_settings()),
        decoder_(models.codec_ops(), models.codec(), settings_, noise_,
                 [&hooks](std::span<const float> left, std::span<const float> right) {
                   if (hooks.audio) hooks.audio(left, right);
                 }) {
    decoder_.set_progress([this, &hooks](int64_t window, int64_t done, int64_t parts) {
      if (between_pieces_) between_pieces_();
      if (!hooks.progress) return;
      const int64_t windows = plan_windows(expected_frames_, settings_.compat).windows;
      hooks.progress("codec", window * parts + done, std::max(windows, window + 1) * parts,
                     seconds_ + seconds_since(begin_));
    });
  }

  /// Called between the pieces of the work.
  void set_between_pieces(std::function<void()> call) { between_pieces_ = std::move(call); }
  bool fills_window(int64_t more) const { return decoder_.fills_window(more); }
  /// How many frames the song will have, as far as it is known: for progress only.
  void expect(int64_t frames) { expected_frames_ = frames; }
  void push(std::span<const Frame> frames) {
    timed([&] { decoder_.push(frames); });
  }
  void finish() {
    timed([&] { decoder_.finish(); });
  }
  double seconds() const { return seconds_; }
  int64_t dropped_codes() const { return decoder_.dropped_codes(); }

 private:
  template <typename Work>
  void timed(const Work& work) {
    begin_ = Clock::now();
    work();
    seconds_ += seconds_since(begin_);
  }

  PhiloxCodecNoise noise_;
  CodecSettings settings_;
  SongDecoder decoder_;
  std::function<void()> between_pieces_;
  int64_t expected_frames_ = 1;
  Clock::time_point begin_;  // of the work in hand
  double seconds_ = 0;       // of the work before it
};

/// Runs a CodecStage on a thread of its own, beside the frame loop.
class CodecThread {
 public:
  CodecThread(CodecStage& stage, Ops& ops, Overlap& overlap, const CancelToken* cancel)
      : stage_(stage), ops_(ops), overlap_(overlap), cancel_(cancel) {
    stage.set_between_pieces([this] { overlap_.begin_piece(stop_); });
    try {
      thread_ = std::thread([this] { run(); });
    } catch (const std::system_error& error) {
      throw failure("cannot start a thread: {}; close other programs, or use --lazy_load true", error.what());
    }
  }
  /// Ends the thread at once if it was not joined.
  ~CodecThread() {
    if (thread_.joinable()) {
      stop_.cancel();
      close(0);
      thread_.join();
    }
    ops_.set_cancel_token(cancel_);
  }

  /// Throws what the thread has failed with.
  void push(const Frame& frame) {
    const std::lock_guard lock(mutex_);
    if (error_) std::rethrow_exception(error_);
    queue_.push_back(frame);
    changed_.notify_all();
  }

  /// Waits until all is decoded; passes a raised token on to the thread.
  void join(int64_t frames) {
    close(frames);
    std::unique_lock lock(mutex_);
    while (!done_) {
      changed_.wait_for(lock, std::chrono::milliseconds(50));
      if (cancel_ != nullptr && cancel_->cancelled()) stop_.cancel();
    }
    lock.unlock();
    thread_.join();
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void close(int64_t frames) {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    if (frames > 0) final_frames_ = frames;
    changed_.notify_all();
  }

  void run() {
    ops_.set_cancel_token(&stop_);
    try {
      for (bool closed = false; !closed;) {
        std::vector<Frame> frames;
        {
          std::unique_lock lock(mutex_);
          changed_.wait(lock, [this] { return closed_ || !queue_.empty(); });
          frames.swap(queue_);
          closed = closed_;
          if (final_frames_) stage_.expect(*final_frames_);
        }
        if (stage_.fills_window(static_cast<int64_t>(frames.size()))) overlap_.begin_piece(stop_);
        stage_.push(frames);
        if (!closed) overlap_.idle();
      }
      overlap_.begin_piece(stop_);
      stage_.finish();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      error_ = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    done_ = true;
    changed_.notify_all();
  }

  CodecStage& stage_;
  Ops& ops_;
  Overlap& overlap_;
  const CancelToken* cancel_;
  CancelToken stop_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Frame> queue_;
  bool closed_ = false;
  bool done_ = false;
  std::optional<int64_t> final_frames_;
  std::exception_ptr error_;
  std::thread thread_;
};

// Prompt to frames.
void generate(Models& models, const Request& request, const Prompt& prompt, std::span<const Frame> begin,
              const SongHooks& hooks, const FrameSink& sink, SongOutcome& outcome) {
  const FrameLoopSettings settings = request.frame_loop_settings(models.gen_config().audio_eos_id);
  const int64_t context = required_context(models.lm_config(), prompt, settings);
  const PhiloxNoise noise(*request.seed);
  const Clock::time_point start = Clock::now();
  LmSession session(models.lm_ops(), models.lm(), settings.sampling.streams(), context);
  outcome.stop_reason =
      generate_frames(session, prompt, begin, settings, noise, [&](int64_t index, const Frame& frame) {
        outcome.frames = index + 1;
        ++outcome.new_frames;
        if (outcome.new_frames % kEmbeddingFrames == 1) models.release_embeddings();
        if (hooks.frame) hooks.frame(index, frame);
        if (hooks.progress) hooks.progress("frames", index + 1, settings.max_frames(), seconds_since(start));
        sink(index, frame);
      });
  outcome.frames_seconds = seconds_since(start);
}

// Loads models one after another.
void timed_load(const SongHooks& hooks, SongOutcome& outcome, const std::vector<std::function<void()>>& loads) {
  const Clock::time_point begin = Clock::now();
  const auto total = static_cast<int64_t>(loads.size());
  if (hooks.progress) hooks.progress("load", 0, total, 0);
  for (int64_t done = 0; done < total; ++done) {
    loads[static_cast<size_t>(done)]();
    if (hooks.progress) hooks.progress("load", done + 1, total, seconds_since(begin));
  }
  outcome.load_seconds += seconds_since(begin);
}

}  // namespace

SongOutcome generate_song(Models& models, const Request& request, const Prompt& prompt, std::span<const Frame> begin,
                          const SongHooks& hooks, const CancelToken* cancel) {
  SongOutcome outcome;
  outcome.frames = static_cast<int64_t>(begin.size());
  std::vector<Frame> frames(begin.begin(), begin.end());

  if (request.lazy_load) {
    models.unload_codec();
    timed_load(hooks, outcome, {[&] { models.lm(); }});
    generate(
        models, request, prompt, begin, hooks, [&](int64_t, const Frame& f) { frames.push_back(f); }, outcome);
    models.unload_lm();
    const SongOutcome decoded = decode_song(models, request, frames, hooks);
    outcome.load_seconds += decoded.load_seconds;
    outcome.codec_seconds = decoded.codec_seconds;
    outcome.dropped_codes = decoded.dropped_codes;
    return outcome;
  }

  Overlap overlap(request.overlap, models.lm_ops(), models.codec_ops());
  timed_load(hooks, outcome, {[&] { models.lm(); }, [&] { models.codec(); }});
  CodecStage stage(models, request, hooks);
  stage.expect(request.frame_loop_settings(0).max_frames());
  CodecThread thread(stage, models.codec_ops(), overlap, cancel);
  for (const Frame& frame : begin) thread.push(frame);
  std::optional<Clock::time_point> last_frame;  // the first one waits for the prefill
  generate(
      models, request, prompt, begin, hooks,
      [&](int64_t, const Frame& f) {
        thread.push(f);
        const Clock::time_point now = Clock::now();
        if (last_frame) overlap.frame_done(std::chrono::duration<double>(now - *last_frame).count());
        last_frame = now;
      },
      outcome);
  overlap.frames_ended();
  thread.join(outcome.frames);
  outcome.overlap_threads = overlap.codec_threads();
  outcome.overlap_gain = overlap.gain();
  outcome.codec_seconds = stage.seconds();
  outcome.dropped_codes = stage.dropped_codes();
  return outcome;
}

SongOutcome decode_song(Models& models, const Request& request, std::span<const Frame> frames, const SongHooks& hooks) {
  SongOutcome outcome;
  outcome.frames = static_cast<int64_t>(frames.size());
  timed_load(hooks, outcome, {[&] { models.codec(); }});
  CodecStage stage(models, request, hooks);
  stage.expect(outcome.frames);
  stage.push(frames);
  stage.finish();
  outcome.codec_seconds = stage.seconds();
  outcome.dropped_codes = stage.dropped_codes();
  return outcome;
}

}  // namespace heartmula
