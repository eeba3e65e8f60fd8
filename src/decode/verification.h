// Drafts are verified all at once: what stands is what would have been sampled anyway (decoding.md 2.1, 4).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "decode/drafter.h"
#include "lm/frame_decoder.h"

namespace heartmula {

/// Open frame `first` follows the song's last one, and first + i the i-th draft.
struct DraftedSong {
  int64_t first = 0;
  std::span<const Frame> drafts;
  bool rides = false;  // Drafter::rides
};

/// From the hidden states of open frames to the next frames of each song: one at least, and one more for each draft
/// that was right. The first head is read once. The depth decoder is read once for all drafts whose first code is
/// right, each further head as long as a draft is alive, and then once for every code that is still missing.
class Verification {
 public:
  /// Songs in the order of their open frames. The verdicts are valid until the next call.
  std::span<const DraftVerdict> run(FrameDecoder& decoder, std::span<const DraftedSong> songs);
  /// Passes of the depth decoder in the last run.
  int64_t passes() const { return passes_; }

 private:
  struct Progress {
    int64_t alive = 0;         // leading drafts that are right so far
    int64_t known = 1;         // codes of the open frame behind them
    int64_t riders_known = 1;  // codes of the drafts behind that one
    int64_t matched = 0;
  };

  void compare(const DraftedSong& song, Progress& progress, int64_t codebook, std::span<const Frame> codes);
  void read_drafts(FrameDecoder& decoder, std::span<const DraftedSong> songs);
  void finish(FrameDecoder& decoder, std::span<const DraftedSong> songs);

  std::vector<Progress> progress_;
  std::vector<int64_t> opened_;  // open frames of a pass
  std::vector<Frame> drafts_;
  std::vector<Frame> frames_;
  std::vector<DraftVerdict> verdicts_;
  int64_t passes_ = 0;
};

}  // namespace heartmula
