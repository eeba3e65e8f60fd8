// One song through the language model step by step, with codes from elsewhere: to compare and to measure.
#pragma once

#include "lm/batch.h"

namespace heartmula {

/// prefill (or jump_to and feed), then for each frame first_logits, next_logits seven times, feed.
class LmSession {
 public:
  /// `capacity` is the longest sequence: prompt and frames. `piece`: LmBatchSize.
  LmSession(Ops& ops, const HeartMula& model, int64_t streams, int64_t capacity, int64_t piece = LmBatchSize().piece);

  /// Reads text_ids [P], whose style stands at `reference_index`, and the frames that the song begins with already.
  void prefill(std::span<const int32_t> text_ids, int64_t reference_index, std::span<const Frame> frames,
               std::span<const float> muq_embed = {});

  /// Logits of codebook 0 of the next frame, [streams, V] on the host.
  std::span<const float> first_logits() { return batch_.decoder().first_logits(); }
  /// Takes the code of codebook - 1; logits of `codebook` (1 to 7), [streams, V] on the host.
  std::span<const float> next_logits(int64_t codebook, int32_t previous_code) {
    return batch_.decoder().next_logits(codebook, previous_code);
  }
  /// Takes the finished frame and moves on by one position.
  void feed(const Frame& frame);

  /// The backbone's output at the last position after the final norm, [streams, D].
  ConstView hidden() const { return batch_.decoder().hidden().slice_rows(0, batch_.size().streams); }
  /// The depth decoder's output after its norm at its last position, [streams, Dd].
  ConstView depth_hidden() const { return batch_.decoder().depth_hidden(); }
  void set_taps(LmTaps taps) { batch_.set_taps(std::move(taps)); }

 private:
  LmBatch batch_;
};

}  // namespace heartmula
