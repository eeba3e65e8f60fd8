#include "song/generator.h"

#include <chrono>
#include <optional>

#include "base/clock.h"
#include "song/codec_stage.h"
#include "song/codec_thread.h"
#include "song/overlap.h"

namespace heartmula {
namespace {

using Clock = std::chrono::steady_clock;

// Prompt to frames.
void generate(Models& models, const Request& request, const Prompt& prompt, std::span<const Frame> begin,
              const SongHooks& hooks, const FrameSink& sink, SongOutcome& outcome) {
  const FrameLoopSettings settings = request.song.frame_loop(models.gen_config().audio_eos_id);
  const int64_t context = required_context(models.lm_config(), prompt, settings);
  const PhiloxNoise noise(*request.song.seed);
  const Clock::time_point start = Clock::now();
  LmBatch batch(models.lm_ops(), models.lm(), {.streams = settings.sampling.streams(), .positions = context});
  outcome.stop_reason = generate_frames(batch, prompt, begin, settings, noise, [&](int64_t index, const Frame& frame) {
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

  if (models.one_at_a_time()) {
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

  Overlap overlap(request.machine.overlap, models.lm_ops(), models.codec_ops(), models.devices().share_cpu(),
                  request.codec.windows == WindowScheme::kEarly);
  timed_load(hooks, outcome, {[&] { models.lm(); }, [&] { models.codec(); }});
  CodecStage stage(models, request, hooks, request.song.frame_loop(0).max_frames());
  CodecThread thread(stage, models.codec_ops(), overlap, cancel);
  for (const Frame& frame : begin) thread.push(frame);
  double paused_seconds = 0;                    // while the codec had all threads
  std::optional<Clock::time_point> last_frame;  // the first one waits for the prefill
  generate(
      models, request, prompt, begin, hooks,
      [&](int64_t, const Frame& f) {
        thread.push(f);
        if (last_frame) paused_seconds += overlap.frame_done(seconds_since(*last_frame), cancel);
        last_frame = Clock::now();
      },
      outcome);
  outcome.frames_seconds -= paused_seconds;
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
  CodecStage stage(models, request, hooks, std::max<int64_t>(outcome.frames, 1));
  stage.push(frames);
  stage.finish();
  outcome.codec_seconds = stage.seconds();
  outcome.dropped_codes = stage.dropped_codes();
  return outcome;
}

}  // namespace heartmula
