#include "lm/session.h"

namespace heartmula {

LmSession::LmSession(Ops& ops, const HeartMula& model, int64_t streams, int64_t capacity, int64_t piece)
    : batch_(ops, model, {.streams = streams, .positions = capacity, .piece = piece}) {
  batch_.enter(0, streams, nullptr);
}

void LmSession::prefill(std::span<const int32_t> text_ids, int64_t reference_index, std::span<const Frame> frames,
                        std::span<const float> muq_embed) {
  const SongBeginning beginning{text_ids, reference_index, muq_embed, frames};
  while (!batch_.prefill(0, beginning, batch_.size().piece)) {
  }
  const int64_t song = 0;
  batch_.open({}, {&song, 1});
}

void LmSession::feed(const Frame& frame) {
  batch_.keep(0, 1);
  const FedFrame fed{0, frame};
  batch_.open({&fed, 1}, {});
}

}  // namespace heartmula
