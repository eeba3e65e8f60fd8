// How long a song takes, and when it is heard, put together from the time of its stages.
#pragma once

#include <vector>

#include "bench/measurement.h"
#include "codec/heartcodec.h"
#include "lm/config.h"

namespace heartmula::bench {

/// Seconds of one frame (with `context` positions in the cache), of the prefill of `prompt` positions, of one guided
/// evaluation of the flow for a whole window, and of a second of music in the wave decoder.
struct StageSeconds {
  double frame = 0;
  double prefill = 0;
  double flow_step = 0;
  double wave_decoder = 0;
};

struct SongShape {
  int64_t frames = 0;
  int64_t prompt = 0;
  int64_t context = 0;       // at which `frame` was measured
  CodecSettings codec = {};  // resolved
  /// What the codec has of the arithmetic beside the frame loop, which it costs nothing there: 0 if one stage waits for
  /// the other. The first of early windows always has all of it.
  double codec_share = 0;

  std::vector<Window> windows() const { return song_windows(codec.windows, codec.short_last_window, frames); }
};

/// Seconds, without loading.
struct SongSeconds {
  double first_audio = 0;  // from the beginning to the first samples
  double total = 0;
  double waited = 0;  // of somebody who plays the song from its first sample on (audio/playback.h)
};

/// A position more in the cache costs as much as any `frame_bytes` / seconds of the frame; `bytes_of_position` are
/// those of one position, all rows. The flow's time is taken as proportional to a window's length, which is a little
/// too much for short ones: their attention is cheaper.
SongSeconds song_seconds(const SongShape& song, const StageSeconds& stages, double frame_bytes,
                         double bytes_of_position);

/// Keys and values of one position of the backbone with guidance.
double position_bytes(const LmConfig& config, DType dtype);

/// "first_audio" and "song", and "song_overlap" where the codec has a share beside the frames, put together from the
/// frame, prefill, flow_step and wave_decoder of `stages` with these weights; nothing if one of them is missing.
std::vector<Stage> song_stages(const std::vector<Stage>& stages, DType mula, DType codec, const SongShape& song,
                               const LmConfig& config, const DeviceLimits& limits);

}  // namespace heartmula::bench
