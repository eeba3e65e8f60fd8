#include "song/codec_stage.h"

#include <algorithm>
#include <iterator>

#include "base/clock.h"

namespace heartmula {
CodecStage::CodecStage(Models& models, const Request& request, const SongHooks& hooks, int64_t most_frames)
    : settings_(resolve_codec_settings(request.codec, models.codec_config())),
      noise_(*request.song.seed, settings_.compat ? PhiloxCodecNoise::Key::kWindow : PhiloxCodecNoise::Key::kSong),
      decoder_(
          models.codec_ops(), models.codec(), settings_, noise_,
          [&hooks](std::span<const float> left, std::span<const float> right) {
            if (hooks.audio) hooks.audio(left, right);
          },
          most_frames),
      expected_frames_(most_frames) {
  if (hooks.codec_begins) hooks.codec_begins();
  decoder_.set_progress([this, &hooks](int64_t window, int64_t done, int64_t parts) {
    if (hooks.progress) {
      const bool at_once = settings_.order != WindowOrder::kSequential;
      const int64_t windows =
          at_once ? 1 : std::ssize(song_windows(settings_.windows, settings_.short_last_window, expected_frames_));
      hooks.progress("codec", window * parts + done, std::max(windows, window + 1) * parts,
                     seconds_ + seconds_since(begin_));
    }
    if (!between_pieces_) return;
    const Clock::time_point waits = Clock::now();
    between_pieces_();
    begin_ += Clock::now() - waits;
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
