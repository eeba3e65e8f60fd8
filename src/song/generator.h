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
#include "song/song_text.h"

namespace heartmula {

/// What a caller wants to hear of while a song is made. Audio and what the codec tells come from another thread than
/// frames, unless the models are loaded one at a time.
struct SongHooks {
  ProgressSink progress = {};
  FrameSink frame = {};  // each new frame, after those that the song began with
  AudioSink audio = {};
  std::function<void(int64_t frames)> has_frames = {};  // all, and there are so many
  std::function<void()> codec_begins = {};
  std::function<void(bool)> rests = {};  // SongFrames::rests
};

struct SongOutcome {
  int64_t frames = 0;
  StopReason stop_reason = StopReason::kLength;
  int64_t dropped_codes = 0;
  double load_seconds = 0;
  double frames_seconds = 0;  // prefill included, and the time of the songs beside it
  int64_t new_frames = 0;
  int64_t passages = 1;      // of a song that is longer than the context
  int64_t rests = 0;         // how often others had its keys' and values' room
  double codec_seconds = 0;  // decoding alone, not waiting for frames
  /// Of the codec beside the frame loop; 0: it waited; nothing where each has a device of its own.
  std::optional<int> overlap_threads = 0;
  DraftCounts drafts;       // of all songs beside it, up to its last frame
  double overlap_gain = 1;  // both together, as measured, in units of one after the other; 1 where nothing was measured
};

/// A song that is made beside others.
struct SongWork {
  const Request* request = nullptr;  // with its seed; request, text, frames and cancel must outlive the call
  const SongText* text = nullptr;
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

/// Where songs come from. Called by the thread that makes frames.
class SongSource {
 public:
  virtual ~SongSource() = default;
  /// The next song, or null if there is none now; it must outlive the call that makes it. Does not wait.
  virtual const SongWork* next() = 0;
  /// There is no song in the frame loop: waits a moment for one. False if none will come.
  virtual bool wait() = 0;
};

/// What all songs of a source have room in.
struct SongsRoom {
  int64_t songs_at_once = 1;
  int64_t streams = 1;    // rows of a song: 2 with guidance
  int64_t positions = 1;  // of the language model's context, at most
  int64_t pages = 0;      // LmBatchSize::pages
  MachineSettings machine = {};
  bool soon = true;                                    // finished windows shall be heard while frames are made
  std::function<void(const RoomCounts&)> counts = {};  // after each step
};

/// Makes all songs of `source`, `songs_at_once` beside each other; each is, bit for bit, what it is alone. They enter
/// in their order, between the frames of the others. One that fails leaves the others alone. `load` hears of models
/// that are loaded. With one model at a time nobody waits for songs: their audio is made when there is no other. Throws
/// what has ended all songs, when each that has entered knows.
void generate_songs(Models& models, SongSource& source, const SongsRoom& room, const ProgressSink& load,
                    const CancelToken* cancel);

/// The same of songs that are all there. Throws nothing: what ends all songs comes to each.
void generate_songs(Models& models, std::span<const SongWork> tasks, int64_t songs_at_once, int64_t pages,
                    const ProgressSink& load, const CancelToken* cancel);

/// Makes a song that begins with the frames `begin`. request.seed must be resolved. Throws Error(kCancelled) when
/// `cancel` is raised; the frames so far have been handed on.
SongOutcome generate_song(Models& models, const Request& request, const SongText& text, std::span<const Frame> begin,
                          const SongHooks& hooks, const CancelToken* cancel);

/// Makes the audio of finished frames.
SongOutcome decode_song(Models& models, const Request& request, std::span<const Frame> frames, const SongHooks& hooks);

}  // namespace heartmula
