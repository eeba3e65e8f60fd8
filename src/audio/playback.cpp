#include "audio/playback.h"

#include <algorithm>

#include "audio/format.h"

namespace heartmula {

void Playback::add(double seconds, int64_t samples) {
  if (samples == 0) return;
  if (first_audio_s_) {
    waited_s_ += std::max(0.0, seconds - played_out_s_);
  } else {
    first_audio_s_ = seconds;
  }
  played_out_s_ = std::max(played_out_s_, seconds) + static_cast<double>(samples) / kSampleRateHz;
}

}  // namespace heartmula
