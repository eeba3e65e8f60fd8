// Which drafter, and how many frames it guesses at a time. None of it changes a song.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "decode/draft_controller.h"
#include "decode/drafter.h"

namespace heartmula {

enum class DrafterKind { kAuto, kNone, kBigram, kPrevious, kRiders, kNgram, kEarlyExit, kRandom, kOracle };

struct DraftSettings {
  DrafterKind kind = DrafterKind::kAuto;
  double right = 1;               // chance of each code of the oracle
  int64_t layers = 0;             // of early exit; 0 for a quarter of the backbone's
  std::optional<int64_t> frames;  // guessed in a step; those that pay, and only where they do, if not given
  std::vector<Frame> song = {};   // what the oracle replays

  /// The words of `--drafter`: "auto", "none", "bigram", "previous", "riders", "ngram", "early_exit",
  /// "early_exit:LAYERS", "random", "oracle:RIGHT". Throws Error(kUser) that begins with `flag`.
  static DraftSettings parse(const std::string& flag, std::string_view text);
  /// As parse() reads it.
  std::string text() const;

  /// LmBatchSize::frames: frames of a song in a pass, at most.
  int64_t frames_of_pass() const;
  DraftController controller() const;
  /// Of one song; null for none.
  std::unique_ptr<Drafter> make_drafter(const LmConfig& config) const;
};

}  // namespace heartmula
