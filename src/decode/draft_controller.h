// Whether drafts pay: found out while a song is made, so that they cost nothing where they do not.
#pragma once

#include <cstdint>
#include <optional>

#include "heartmula/frame.h"

namespace heartmula {

/// What was drafted in a run of the frame loop.
struct DraftCounts {
  int64_t plain_steps = 0;
  int64_t drafted_steps = 0;
  int64_t frames = 0;          // that drafted steps made, of all songs
  int64_t drafted_frames = 0;  // guesses that were verified
  int64_t accepted_frames = 0;
  int64_t trials = 0;         // of drafting, after plain decoding
  int64_t watched = 0;        // frames that were guessed only to compare
  int64_t watched_codes = 0;  // leading codes of them that were right
  double seconds_lost = 0;    // by trials that did not pay
};

/// Decides for all songs of a frame loop together: they share each reading of the weights.
class DraftController {
 public:
  /// `most` drafts a step and song. `always` as many, or those that pay. `watched`: guesses may be made for nothing,
  /// and so compared with what comes before anything is spent on them.
  DraftController(int64_t most, bool always, bool watched) : most_(most), always_(always), may_watch_(watched) {}

  /// Frames to draft for each song in the next step; nothing for plain decoding. With 0 only the rest of the next frame
  /// is guessed, behind its first code.
  std::optional<int64_t> frames() const;
  /// Whether the next plain step's frames shall be guessed, to compare.
  bool watches() const { return may_watch_ && !always_; }

  /// A drafted frame was right in its leading `matched` codes, 0 to 8; verified or only watched.
  void compared(int64_t matched);
  /// Of the 7 guesses of a code behind those of its frame so many were right; only watched.
  void compared_rest(int64_t right);
  void plain_step(double seconds, int64_t songs);
  void drafted_step(double seconds, int64_t songs, int64_t drafts, int64_t accepted);

  const DraftCounts& counts() const { return counts_; }

 private:
  double promised_gain(bool drafts) const;
  double whole_frames() const { return whole_ / drafts_; }
  bool may_try() const;
  void begin_plain(int64_t wait);

  int64_t most_;
  bool always_;
  bool may_watch_;
  bool drafting_ = false;
  DraftCounts counts_;
  double plain_seconds_ = 0;  // of a step, for each song; recent ones count more
  int64_t plain_ = 0;         // steps since drafting ended, or in a look at plain decoding
  int64_t wait_ = 16;         // plain steps before the next trial
  int64_t next_wait_ = 64;
  double elapsed_ = 0;  // seconds of all steps
  int64_t steps_ = 0;   // of the trial or window in hand
  double steps_seconds_ = 0;
  int64_t steps_frames_ = 0;
  int64_t windows_ = 0;   // that have paid, one after another
  double drafts_ = 1e-9;  // that were compared; older ones fade, as everything below
  double whole_ = 0;      // of them, right in all codes
  double rests_ = 1e-9;
  double rest_right_ = 0;  // codes of them that were right
};

}  // namespace heartmula
