#include "song/codec_stage.h"

#include <algorithm>

#include "base/clock.h"

namespace heartmula {
CodecStage::CodecStage(Models& models, const Request& request, const SongHooks& hooks)
    : noise_(*request.song.seed),
      settings_(request.codec),
      decoder_(models.codec_ops(), models.codec(), settings_, noise_,
               [&hooks](std::span<const float> left, std::span<const float> right) {
                 if (hooks.audio) hooks.audio(left, right);
               }) {
  decoder_.set_progress([this, &hooks](int64_t window, int64_t done, int64_t parts) {
    if (between_pieces_) {
      const Clock::time_point waits = Clock::now();
      between_pieces_();
      begin_ += Clock::now() - waits;
    }
    if (!hooks.progress) return;
    const int64_t windows = plan_windows(expected_frames_, settings_.compat).windows;
    hooks.progress("codec", window * parts + done, std::max(windows, window + 1) * parts,
                   seconds_ + seconds_since(begin_));
  });
}

template <typename Work>
void CodecStage::timed(const Work& work) {
  begin_ = Clock::now();
  work();
  seconds_ += seconds_since(begin_);
}

void CodecStage::push(std::span<const Frame> frames) {
  timed([&] { decoder_.push(frames); });
}

void CodecStage::finish() {
  timed([&] { decoder_.finish(); });
}

}  // namespace heartmula
