// From prompts to frames: the loop of lm.md B7, for a batch of songs.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/swap_file.h"
#include "decode/draft_controller.h"
#include "decode/drafter.h"
#include "decode/passages.h"
#include "decode/verification.h"
#include "heartmula/cancel.h"
#include "lm/batch.h"
#include "sampling/sampler.h"
#include "text/prompt.h"

namespace heartmula {

inline constexpr int64_t kDefaultAudioLengthMs = 240000;

struct FrameLoopSettings {
  SamplingSettings sampling;
  int64_t max_audio_length_ms =
      kDefaultAudioLengthMs;        // at most max_audio_length_ms / 80 + 1 frames, as in the reference
  int32_t audio_eos_id = 0;         // a frame with a code from here on ends the song
  int64_t min_audio_length_ms = 0;  // the song does not end by itself before
  bool ignore_eos = false;          // nor at all: it is as long as it may be
  LossyAcceptance lossy = LossyAcceptance::kNone;
  GuessVerification verification = GuessVerification::kCoupled;

  int64_t max_frames() const { return max_audio_length_ms / kFrameMs + 1; }
  int64_t min_frames() const { return ignore_eos ? max_frames() : (min_audio_length_ms + kFrameMs - 1) / kFrameMs; }
};

/// Positions of the backbone that prompt and frames need. Throws Error(kUser) if they exceed the model's context, or if
/// the model has no embedding for a token of the prompt.
int64_t required_context(const LmConfig& config, const Prompt& prompt, const FrameLoopSettings& settings);

/// The longest song after this prompt, as --max_audio_length_ms.
int64_t longest_audio_ms(const LmConfig& config, const Prompt& prompt);

/// Throws Error(kUser) that begins with `name` if the model does not know a code of `frames`.
void check_codes(const LmConfig& config, std::span<const Frame> frames, const std::string& name);

/// Called with each frame as soon as it is made.
using FrameSink = std::function<void(int64_t index, const Frame& frame)>;

/// A song that the loop makes frames of, beside others. It begins with the frames `begin`, of an earlier run. The first
/// frame of a song is never looked at for its end; every later one with any code >= audio_eos_id ends the song and is
/// dropped.
///
/// In frames 1 to min_frames() - 1 codes >= audio_eos_id are not sampled: they are taken out before the k likeliest are
/// chosen, as if the vocabulary ended there. The frames are those of plain decoding until the first one in which such a
/// code is among its codebook's k likeliest, for then another takes its place; and from min_frames() on those that
/// plain decoding makes after the same beginning.
struct SongFrames {
  const Prompt* prompt = nullptr;  // prompt, noise and cancel must outlive the song's last call
  std::vector<Frame> begin;
  FrameLoopSettings settings;
  const SamplingNoise* noise = nullptr;
  const CodeGroups* groups = nullptr;   // of LossyAcceptance::kGroup; must outlive the song, too
  const CancelToken* cancel = nullptr;  // of this song alone, or none
  /// One for each arm of the loop's controller, or none: nobody guesses this song's frames.
  std::vector<std::unique_ptr<Drafter>> drafters = {};
  /// Of a song that is longer than the context; none for one with `prompt` alone.
  std::vector<Passage> passages = {};
  FrameSink frame;  // each new frame; what it throws ends this song
  /// It rests from now on (true) because the keys and values of all songs have no room, or goes on. What it throws ends
  /// this song.
  std::function<void(bool)> rests = {};
  // One of them is the song's last call. They must not throw.
  std::function<void(StopReason)> ended;
  std::function<void(std::exception_ptr)> failed;  // Error(kCancelled) if its token was raised
};

/// What the songs of a loop have of the cache's pages.
struct RoomCounts {
  int64_t pages = 0;
  int64_t free = 0;
  int64_t resting = 0;  // songs that wait for pages, after they were begun
  int64_t rests = 0;    // so far
  int64_t swapped_bytes = 0;
};

/// Makes the frames of songs that come and go: each is the same as it is alone.
///
/// A song takes pages as it grows. When there are none, the youngest song gives up its own and rests until there is
/// room: its keys and values go to `swap`, if there is such a folder and room in it, and come back; else they are
/// computed again from its frames. Both give the bits that they had.
class FrameLoop {
 public:
  /// For songs whose required_context the batch has room for. It must outlive the loop. Where songs have drafters, up
  /// to size().frames - 1 frames of each are drafted in a step, if `drafts` says so, and verified.
  explicit FrameLoop(LmBatch& batch, const DraftController& drafts = {}, std::filesystem::path swap = {});
  ~FrameLoop();

  /// Whether another song may enter: not before those that rest go on.
  bool has_room() const;
  /// Throws Error(kUser) if the settings leave no code to sample, if kGroup has no groups, or if guesses are to be
  /// verified as blocks and a drafter does not tell its chances.
  void enter(SongFrames work);
  /// The next frame of every song whose beginning was read, and a piece of the beginning of one that was not; calls
  /// what the songs gave. False if there is no song. What it throws (a raised token of the Ops, a broken device) is the
  /// end of all of them, and they are not called.
  bool step();

  const DraftCounts& draft_counts() const { return drafts_.counts(); }
  RoomCounts room() const;

 private:
  using Clock = std::chrono::steady_clock;
  enum class State { kEnters, kFresh, kRuns, kTurns, kOver };  // kTurns: to its next passage
  struct Song {
    SongFrames work;
    int64_t place = 0;
    State state = State::kEnters;
    int64_t number = 0;              // of the next frame
    std::vector<Frame> frames = {};  // so far
    std::vector<Frame> drafts = {};  // of the next ones
    SamplingRule rule = {};
    size_t passage = 0;
    bool rests = false;
    std::unique_ptr<SwapFile> swap = {};      // what it had in the cache
    std::optional<uint64_t> block_seed = {};  // if guesses are verified as blocks
    std::vector<FrameChances> chances = {};   // that they were drawn from, of frame `number` and those behind it
  };

  static bool is_made(const Song& song);
  bool run_is_over() const;
  void close_run();
  void end_cancelled();
  void read_piece();
  bool someone_rests() const;
  bool has_room_for(int64_t frames);
  void find_room(int64_t frames);
  void rest(Song& song);
  bool swap_out(Song& song);
  void change_rest(Song& song, bool rests);
  void begin_anew(Song& song);
  static int64_t frames_left(const Song& song);
  static int64_t past_of(const Song& song);
  static bool sees_frames(const Song& song);
  bool admit(const Song& song);
  void bring_back();
  void open_run();
  void make_frames();
  bool has_drafters() const;
  void list_songs();
  static Drafter* drafter_of(const Song& song, size_t arm);
  void propose(Song& song, size_t arm, int64_t most);
  void ask_drafter(Song& song, size_t arm, const std::function<void(Drafter&, const DraftTask&)>& question,
                   int64_t most = 0, int64_t known = 0);
  void complete(Song& song, size_t arm, int64_t number, int64_t known, Frame& frame);
  bool has_codes(const Frame& frame) const;
  void watch(Song& song, size_t arm, const Frame& frame);
  void make_drafted_frames(const DraftChoice& choice);
  bool take(Song& song, const Frame& frame);
  void end(Song& song, StopReason reason);
  void fail(Song& song, std::exception_ptr error);

  LmBatch& batch_;
  std::vector<std::unique_ptr<Song>> songs_;
  std::vector<Song*> run_;     // whose frames the batch makes now, in its order
  int64_t run_end_ = 0;        // frames of that run
  bool run_changes_ = false;   // other songs are to take part: it ends with what was started
  std::vector<Frame> frames_;  // of one step
  DraftController drafts_;
  std::filesystem::path swap_;
  int64_t rests_ = 0;
  int64_t swapped_bytes_ = 0;
  Clock::time_point step_begin_;  // without the beginnings that it has read
  Verification verification_;
  std::vector<DraftedSong> drafted_;
  int64_t guessed_codes_ = 0;  // in the step in hand
  std::vector<FedFrame> fed_;
  std::vector<int64_t> fresh_;
};

/// Generates the frames of one song after `begin`.
StopReason generate_frames(LmBatch& batch, const Prompt& prompt, std::span<const Frame> begin,
                           const FrameLoopSettings& settings, const SamplingNoise& noise, const FrameSink& sink);

}  // namespace heartmula
