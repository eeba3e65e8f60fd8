// Drafts are verified all at once: what stands is what would have been sampled anyway (decoding.md 2.1, 4).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "decode/drafter.h"
#include "lm/frame_decoder.h"
#include "sampling/acceptance.h"

namespace heartmula {

/// How guesses are verified.
enum class GuessVerification : uint8_t {
  kCoupled,  // they stand if they are what is drawn anyway: the song is that of plain decoding
  kBlock,    // block_verification.h: more of them stand, and the song is another one of the same distribution
};
inline constexpr Names<GuessVerification, 2> kGuessVerifications = {
    {{{GuessVerification::kCoupled, "coupled"}, {GuessVerification::kBlock, "block"}}}};

/// Open frame `first` follows the song's last one, and first + i the i-th draft.
struct DraftedSong {
  int64_t first = 0;
  std::span<const Frame> drafts;
  bool rides = false;  // Drafter::rides
  /// Guesses the codes of the i-th of these frames behind its first `known`. May be empty.
  std::function<void(int64_t i, int64_t known, Frame& frame)> complete = {};
  /// Which guesses are taken although another code is drawn, and how it is drawn.
  LossyAcceptance lossy = LossyAcceptance::kNone;
  SamplingRule rule = {};
  const SamplingNoise* noise = nullptr;  // of kTolerance
  const CodeGroups* groups = nullptr;    // of kGroup
  /// The song's seed, if its guesses are verified as blocks; then `complete` guesses each frame that it is asked for,
  /// and chances[i] says what the codes of the i-th frame were drawn from that were guessed last.
  std::optional<uint64_t> block_seed = {};
  std::span<const FrameChances> chances = {};
};

/// From the hidden states of open frames to the next frames of each song: one at least, and one more for each draft
/// that was right. The first head is read once for all. One pass of the depth decoder reads all drafts whose first code
/// is right, and a guess of the frame behind them; further heads are read as long as some guess is alive. Then the
/// codes that are still missing come with a pass each, or with a pass for as many as were guessed rightly.
class Verification {
 public:
  /// Songs in the order of their open frames. The verdicts are valid until the next call.
  std::span<const DraftVerdict> run(FrameDecoder& decoder, std::span<const DraftedSong> songs);
  /// Passes of the depth decoder in the last run.
  int64_t passes() const { return passes_; }
  /// Readings of its heads in the last run.
  int64_t heads() const { return heads_; }

 private:
  struct Progress {
    int64_t alive = 0;         // leading drafts that are right so far
    int64_t known = 1;         // codes of the open frame behind them
    int64_t riders_known = 1;  // codes of the drafts behind that one
    int64_t matched = 0;       // of the first draft that is wrong
    bool is_guessed = false;   // the frame behind them was guessed
    Frame guess = {};
    std::vector<FrameChances> said = {};  // of guesses that are verified as a block: what the model draws from
  };
  struct Place {
    int64_t i = 0;  // a frame of its song
    int64_t codebook = 0;
  };

  int64_t drafts_of(const DraftedSong& song, const Progress& progress) const;
  void compare(const DraftedSong& song, Progress& progress, int64_t codebook, std::span<const Frame> codes);
  void listen(const DraftedSong& song, Progress& progress, int64_t codebook);
  void settle(const DraftedSong& song, Progress& progress);
  void verify_block(const DraftedSong& song, Progress& progress, std::span<const Place> places, int64_t known);
  bool stands(const DraftedSong& song, int64_t i, int64_t codebook, int32_t guess, int32_t drawn);
  void guess(std::span<const DraftedSong> songs, std::span<const Frame> codes);
  bool read_guesses(std::span<const DraftedSong> songs);
  void finish(std::span<const DraftedSong> songs);
  void tell(std::span<const DraftedSong> songs);

  FrameDecoder* decoder_ = nullptr;
  bool guesses_ = false;      // frames behind the drafts that stand are guessed
  bool reads_drafts_ = true;  // by the next pass
  std::vector<Progress> progress_;
  std::vector<int64_t> opened_;  // open frames of a pass
  std::vector<Frame> drafts_;    // their drafts
  std::vector<int64_t> known_;   // and how many codes of those are known
  std::vector<Frame> frames_;
  std::vector<DraftVerdict> verdicts_;
  int64_t passes_ = 0;
  int64_t heads_ = 0;
  SamplingScratch scratch_;
};

}  // namespace heartmula
