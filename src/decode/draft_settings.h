// Which drafter, and how many frames it guesses at a time. None of it changes a song.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "decode/draft_controller.h"
#include "decode/draft_model.h"
#include "decode/drafter.h"

namespace heartmula {

enum class DrafterKind { kAuto, kNone, kBigram, kPrevious, kRiders, kNgram, kEarlyExit, kRandom, kOracle, kFile };

struct DraftSettings {
  DrafterKind kind = DrafterKind::kAuto;
  double right = 1;               // chance of each code of the oracle
  int64_t layers = 0;             // of early exit; 0 for a quarter of the backbone's
  std::optional<int64_t> frames;  // guessed in a step; those that pay, and only where they do, if not given
  std::vector<Frame> song = {};   // what the oracle replays
  std::string file = {};          // of kFile
  std::shared_ptr<const DraftModel> model = {};  // of the file, or of "auto" if the checkpoint has one

  /// The words of `--drafter`: "auto", "none", "bigram", "previous", "riders", "ngram", "early_exit",
  /// "early_exit:LAYERS", "random", "oracle:RIGHT"; a text with a slash or that ends with ".safetensors" names a
  /// drafter file. Throws Error(kUser) that begins with `flag`.
  static DraftSettings parse(const std::string& flag, std::string_view text);
  /// As parse() reads it.
  std::string text() const;

  /// LmBatchSize::frames: frames of a song in a pass, at most.
  int64_t frames_of_pass() const;
  DraftController controller() const;
  /// Of one song, for each arm of the controller.
  std::vector<std::unique_ptr<Drafter>> make_drafters(const LmConfig& config) const;

 private:
  /// What an arm of the controller is.
  struct Arm {
    DrafterKind kind = DrafterKind::kNone;
    bool drafts_frames = true;  // of a file: not only the rest of each
  };
  std::vector<Arm> arms() const;
  std::unique_ptr<Drafter> make_drafter(const Arm& arm, const LmConfig& config) const;
};

}  // namespace heartmula
