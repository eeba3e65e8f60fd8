// The way of a song: prompt -> frames -> windows -> samples.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "base/progress.h"
#include "checkpoint/models.h"
#include "decode/frame_loop.h"
#include "song/request.h"

namespace heartmula {

/// What a caller wants to hear of while a song is made. Audio and the codec's progress come from another thread than
/// frames, unless the models are loaded one at a time.
struct SongHooks {
  ProgressSink progress = {};
  FrameSink frame = {};  // each new frame, after those that the song began with
  AudioSink audio = {};
};

struct SongOutcome {
  int64_t frames = 0;
  StopReason stop_reason = StopReason::kLength;
  int64_t dropped_codes = 0;
  double load_seconds = 0;
  double frames_seconds = 0;  // prefill included
  int64_t new_frames = 0;
  double codec_seconds = 0;  // decoding alone, not waiting for frames
  /// Of the codec beside the frame loop; 0: it waited; nothing where each has a device of its own.
  std::optional<int> overlap_threads = 0;
  double overlap_gain = 1;  // both together, as measured, in units of one after the other; 1 where nothing was measured
};

/// Makes a song that begins with the frames `begin`. request.seed must be resolved. Throws Error(kCancelled) when
/// `cancel` is raised; the frames so far have been handed on.
SongOutcome generate_song(Models& models, const Request& request, const Prompt& prompt, std::span<const Frame> begin,
                          const SongHooks& hooks, const CancelToken* cancel);

/// Makes the audio of finished frames.
SongOutcome decode_song(Models& models, const Request& request, std::span<const Frame> frames, const SongHooks& hooks);

}  // namespace heartmula
