// Frames that were drafted by an oracle: what verification costs and gives, whoever drafts.
#pragma once

#include <memory>
#include <vector>

#include "bench/stages.h"
#include "decode/draft_model.h"
#include "decode/verification.h"

namespace heartmula::bench {

/// A song of a model, with guidance, and the same song again with drafts.
class DraftedFrames {
 public:
  /// The song begins after `context` positions; drafts have at most `most_drafts` frames. It is made here. Throws
  /// Error(kUser) if the model has too few positions.
  DraftedFrames(Ops& ops, WorkMeter& meter, const HeartMula& model, int64_t context, int64_t most_drafts,
                std::shared_ptr<const DraftModel> draft_model = {});

  /// Seconds and work of a frame, where each code of `drafts` frames, and of the rest of the frame before them, is
  /// guessed rightly with the chance `right`. The draft model computes its guesses, too, and pays for
  /// them; then they are let go. Throws Error(kFailure) if the song is another one with them.
  Stage measure(double right, int64_t drafts);

 private:
  struct Made {
    std::vector<Frame> frames;
    int64_t steps = 0;
    int64_t passes = 0;
    double seconds = 0;
  };
  Made make(Drafter* drafter, int64_t drafts, int64_t frames);

  WorkMeter& meter_;
  const HeartMula& model_;
  int64_t context_;
  PhiloxNoise noise_{1};
  SamplingRule rule_;
  LmBatch batch_;
  std::shared_ptr<const DraftModel> draft_model_;
  std::vector<Frame> song_;
};

}  // namespace heartmula::bench
