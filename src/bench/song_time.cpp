#include "bench/song_time.h"

#include <algorithm>

namespace heartmula::bench {

SongShape SongShape::first_window() const {
  SongShape first = *this;
  first.frames = std::min(frames, kWindowCodes);
  return first;
}

SongSeconds song_seconds(const SongShape& song, const StageSeconds& stages, double frame_bytes,
                         double bytes_of_position) {
  const auto frames = static_cast<double>(song.frames);
  const double mean_context = static_cast<double>(song.prompt) + frames / 2;
  const double more_bytes = (mean_context - static_cast<double>(song.context)) * bytes_of_position;
  const double window_seconds = static_cast<double>(kWindowSamples) / static_cast<double>(kSampleRate);
  SongSeconds seconds;
  seconds.prefill = stages.prefill;
  seconds.frames = frames * stages.frame * (1 + more_bytes / frame_bytes);
  seconds.codec = static_cast<double>(song.windows()) *
                  (static_cast<double>(song.codec_steps) * stages.flow_step + window_seconds * stages.wave_decoder);
  return seconds;
}

double position_bytes(const LmConfig& config, DType dtype) {
  constexpr int64_t kRows = 2;  // guidance
  constexpr int64_t kKeysAndValues = 2;
  const TransformerConfig& c = config.backbone;
  return static_cast<double>(kRows * kKeysAndValues * c.num_layers * c.kv_dim()) *
         static_cast<double>(dtype_size(dtype));
}

}  // namespace heartmula::bench
