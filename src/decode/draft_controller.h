// Whether drafts pay, and whose: found out while a song is made, so that they cost nothing where they do not.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "heartmula/frame.h"
#include "lm/heartmula.h"

namespace heartmula {

/// One of the drafters that a controller chooses from.
struct DraftArm {
  /// It guesses for nothing, and so is compared with what comes before anything is spent on it.
  bool is_watched = false;
  int64_t least_frames = 0;  // in a step
  int64_t most_frames = std::numeric_limits<int64_t>::max();
};

/// What the next step drafts.
struct DraftChoice {
  size_t arm = 0;
  /// Of each song. With 0 only the rest of the next frame is guessed, behind its first code.
  int64_t frames = 0;

  bool operator==(const DraftChoice&) const = default;
};

/// What was drafted in a run of the frame loop.
struct DraftCounts {
  int64_t plain_steps = 0;
  int64_t drafted_steps = 0;
  int64_t frames = 0;           // that drafted steps made, of all songs
  int64_t drafted_frames = 0;   // guesses that were verified
  int64_t accepted_frames = 0;  // of them
  double plain_frames = 0;      // steps in which plain decoding would have made as many frames as drafted steps did
  int64_t depth_passes = 0;     // of the depth decoder in drafted steps
  int64_t heads = 0;            // readings of its heads in them
  int64_t guessed_codes = 0;    // for the drafted steps
  int64_t trials = 0;           // of drafting, after plain decoding
  double seconds_lost = 0;      // by trials that did not pay

  /// What all steps read of the model's weights, in units of what plain decoding reads for the same frames.
  double weights_read(const FrameWeights& weights) const;
};

/// What a step with drafts did, for all songs.
struct DraftedStep {
  int64_t songs = 1;
  int64_t drafts = 0;  // frames
  int64_t accepted = 0;
  int64_t depth_passes = 0;
  int64_t heads = 0;
  int64_t guessed_codes = 0;
};

/// Decides for all songs of a frame loop together: they share each reading of the weights.
class DraftController {
 public:
  /// Never drafts.
  DraftController() = default;
  /// The first arm drafts `frames` in every step.
  static DraftController always(int64_t frames);
  /// Each arm that pays, up to `most` frames in a step.
  DraftController(const std::vector<DraftArm>& arms, int64_t most);

  /// For the next step of so many songs; nothing for plain decoding.
  std::optional<DraftChoice> choose(int64_t songs) const;
  /// Whether an arm shall guess the frames of the next plain step, to compare.
  bool watches(size_t arm) const { return !always_ && arm < arms_.size() && arms_[arm].kind.is_watched; }

  /// A drafted frame of an arm was wholly right or not; verified or only watched.
  void compared(size_t arm, bool is_right);
  /// Of the 7 guesses of a code behind those of its frame so many were right; only watched.
  void compared_rest(size_t arm, int64_t right);
  void plain_step(double seconds, int64_t songs);
  /// A frame for each song and those that were accepted were made.
  void drafted_step(const DraftChoice& choice, double seconds, const DraftedStep& step);

  const DraftCounts& counts() const { return counts_; }

 private:
  struct Arm {
    DraftArm kind = {};
    int64_t ready_at = 0;  // plain steps before it is tried again
    int64_t wait = 0;      // after the next trial that does not pay
    double gain = 0;       // as measured last, over plain decoding; 0 before the first trial
    double drafts = 0;     // that were compared; older ones fade, as all below
    double right = 0;      // of them, in all codes
    double rests = 0;
    double rest_right = 0;  // codes of them that were right

    double whole_frames() const { return drafts > 0 ? right / drafts : 0; }
    double promised_gain(bool with_drafts) const;
  };

  bool may_try(const Arm& arm) const;
  int64_t frames_of(const Arm& arm) const;
  void judge(Arm& arm, double plain_seconds);

  std::vector<Arm> arms_;
  int64_t most_ = 0;
  bool always_ = false;
  std::optional<size_t> drafting_;  // an arm
  DraftCounts counts_;
  int64_t plain_songs_ = 0;   // of the plain steps that were measured last
  int64_t measured_ = 0;      // plain steps of so many songs
  double plain_seconds_ = 0;  // of one; recent ones count more
  double elapsed_ = 0;        // seconds of all steps
  int64_t steps_ = 0;         // of the window in hand
  double steps_seconds_ = 0;
  int64_t steps_frames_ = 0;
  int64_t windows_ = 0;  // of this arm that have paid, one after another
};

}  // namespace heartmula
