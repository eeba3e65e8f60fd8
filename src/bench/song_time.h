// How long a song takes, put together from the time of its stages.
#pragma once

#include <vector>

#include "bench/measurement.h"
#include "codec/windows.h"
#include "lm/config.h"

namespace heartmula::bench {

/// Seconds of one frame (with `context` positions in the cache), of the prefill of `prompt` positions, of one Euler
/// step of a window, and of a second of music in the wave decoder.
struct StageSeconds {
  double frame = 0;
  double prefill = 0;
  double flow_step = 0;
  double wave_decoder = 0;
};

struct SongShape {
  int64_t frames = 0;
  int64_t prompt = 0;
  int64_t context = 0;  // at which `frame` was measured
  int64_t codec_steps = 10;

  /// Up to the first samples that can be heard: one window.
  SongShape first_window() const;
  int64_t windows() const { return std::ssize(song_windows(WindowScheme::kReference, false, frames)); }
};

struct SongSeconds {
  double prefill = 0;
  double frames = 0;
  double codec = 0;

  double total() const { return prefill + frames + codec; }
};

/// Stages one after the other. A position more in the cache costs as much as any `frame_bytes` / seconds of the frame;
/// `bytes_of_position` are those of one position, all rows.
SongSeconds song_seconds(const SongShape& song, const StageSeconds& stages, double frame_bytes,
                         double bytes_of_position);

/// Keys and values of one position of the backbone with guidance.
double position_bytes(const LmConfig& config, DType dtype);

/// "first_audio" and "song", put together from the frame, prefill, flow_step and wave_decoder of `stages` with these
/// weights; nothing if one of them is missing.
std::vector<Stage> song_stages(const std::vector<Stage>& stages, DType mula, DType codec, const SongShape& song,
                               const LmConfig& config, const DeviceLimits& limits);

}  // namespace heartmula::bench
