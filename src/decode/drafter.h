// Guesses of the frames that come next. They are verified, so that they change a song's speed and never the song.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "lm/batch.h"
#include "sampling/sampler.h"

namespace heartmula {

/// What each code of a frame was drawn from; empty for one that was there for sure.
using FrameChances = std::array<CodeChances, kCodebooks>;

/// A song, for whom its next frames shall be guessed.
struct DraftTask {
  std::span<const Frame> frames;  // of the song so far; guessed is frames.size() and what follows
  int64_t most = 1;               // frames to guess, at most
  const SamplingRule& rule;
  const SamplingNoise& noise;  // codes are drawn with it: who guesses with the same noise is right more often
  LmBatch& batch;              // for those who compute with the model, between two steps
  int64_t place = 0;           // of the song in it
  /// Where it is not empty, it hears what each guessed code is drawn from (Drafter::tells_chances); `noise` is another
  /// one in each call then.
  std::function<void(int64_t number, int64_t codebook, CodeChances chances)> tell = {};
};

/// What became of guesses.
struct DraftVerdict {
  std::span<const Frame> drafts;  // as they were verified
  int64_t accepted = 0;           // leading ones that were right
  int64_t matched = 0;            // codes of the next one that were, 0 to 7
  std::span<const Frame> frames;  // the accepted ones, and the one after them as it is
  /// Of the drafts behind that one: the codes that the model samples after the drafts before them (Drafter::rides).
  std::span<const Frame> riders;
};

class Drafter {
 public:
  virtual ~Drafter() = default;
  /// Appends frames to `drafts`, which is empty.
  virtual void propose(const DraftTask& task, std::vector<Frame>& drafts) = 0;
  /// Whether complete() guesses.
  virtual bool completes() const { return false; }
  /// Guesses the codes of frame `number`, one of the next ones, behind its first `known` (1 to 7).
  virtual void complete(const DraftTask& /*task*/, int64_t /*number*/, int64_t /*known*/, Frame& /*frame*/) {}
  /// Whether it draws codes from chances that it can tell.
  virtual bool tells_chances() const { return false; }
  /// Called after each step in which frames might have been drafted.
  virtual void learn(const DraftTask& /*task*/, const DraftVerdict& /*verdict*/) {}
  /// Whether drafts that cannot be right any more are sampled anew: they ride along in passes for the others.
  virtual bool rides() const { return false; }
};

/// The token with the largest weight after the exponential race that the model's own code is drawn by
/// (decoding.md 2.2): argmax of log(weight) - log E. `tokens` and `weights` (> 0) belong together; -1 if there are
/// none.
int32_t drawn_code(std::span<const int32_t> tokens, std::span<const double> weights, const SamplingNoise& noise,
                   int64_t frame, int64_t codebook);

}  // namespace heartmula
