// The way of songs: prompt -> frames -> windows -> samples.
#pragma once

#include <cstdint>
#include <exception>
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
  std::function<void(int64_t frames)> has_frames = {};  // all, and there are so many
};

struct SongOutcome {
  int64_t frames = 0;
  StopReason stop_reason = StopReason::kLength;
  int64_t dropped_codes = 0;
  double load_seconds = 0;
  double frames_seconds = 0;  // prefill included, and the time of the songs beside it
  int64_t new_frames = 0;
  double codec_seconds = 0;  // decoding alone, not waiting for frames
  /// Of the codec beside the frame loop; 0: it waited; nothing where each has a device of its own.
  std::optional<int> overlap_threads = 0;
  DraftCounts drafts;       // of all songs beside it, up to its last frame
  double overlap_gain = 1;  // both together, as measured, in units of one after the other; 1 where nothing was measured
};

/// A song that is made beside others.
struct SongWork {
  const Request* request = nullptr;  // with its seed; request, prompt, frames and cancel must outlive the call
  const Prompt* prompt = nullptr;
  std::span<const Frame> begin = {};    // what the song begins with
  const CancelToken* cancel = nullptr;  // of this song alone, or none
  SongHooks hooks = {};                 // never two calls at once of one hook
  /// Before anything is made of it, for what it needs from then on. What it throws ends this song.
  std::function<void()> enters = {};
  /// The song's last call, from the generating thread or the codec's ... What it throws comes to `failed`.
  std::function<void(const SongOutcome& outcome)> made = {};
  /// ... or this one, which must not throw: what the hooks or the work have thrown, Error(kCancelled) if a token was
  /// raised. The frames so far have been handed on.
  std::function<void(std::exception_ptr error)> failed = {};
};

/// Makes all songs, `songs_at_once` beside each other; each is, bit for bit, what it is alone. They enter in their
/// order. One that fails leaves the others alone. `load` hears of models that are loaded. Throws nothing: whatever
/// ends all songs comes to each of them.
void generate_songs(Models& models, std::span<const SongWork> tasks, int64_t songs_at_once, const ProgressSink& load,
                    const CancelToken* cancel);

/// Makes a song that begins with the frames `begin`. request.seed must be resolved. Throws Error(kCancelled) when
/// `cancel` is raised; the frames so far have been handed on.
SongOutcome generate_song(Models& models, const Request& request, const Prompt& prompt, std::span<const Frame> begin,
                          const SongHooks& hooks, const CancelToken* cancel);

/// Makes the audio of finished frames.
SongOutcome decode_song(Models& models, const Request& request, std::span<const Frame> frames, const SongHooks& hooks);

}  // namespace heartmula
