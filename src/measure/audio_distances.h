// How far one piece of music is from another.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>

#include "audio/audio_reader.h"
#include "base/thread_pool.h"

namespace heartmula {

inline constexpr std::array<size_t, 4> kSpectralWindows = {256, 512, 1024, 2048};
/// No piece that is shorter can be compared.
inline constexpr size_t kLeastFrames = kSpectralWindows.back();

/// Of magnitudes of Hann windows, a quarter of a window apart, over sqrt(window); a, b: of piece and reference.
struct SpectralDistance {
  size_t window = 0;
  double log_magnitude = 0;  ///< mean |ln(a + 1e-3) - ln(b + 1e-3)|
  double convergence = 0;    ///< norm of a - b over norm of b
};

/// Channels are compared one by one, and all of them make one figure.
struct AudioDistances {
  size_t frames = 0;    ///< that were compared: the common length
  size_t channels = 0;  ///< that were compared: one if either piece is mono, and the other is mixed down then
  bool identical = false;
  /// Mean absolute difference of the levels of 80 mel bands between 40 Hz and 20 kHz, window 2048.
  double log_mel_db = 0;
  std::array<SpectralDistance, kSpectralWindows.size()> spectral;
  /// Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019, "SDR - half-baked or well done?", without
  /// removing means). Infinite if the piece is the reference times a number; nothing if they have nothing in common, as
  /// when either is silent.
  std::optional<double> si_sdr_db;
  /// Of the levels of 80 ms in dB, all channels together, not below -60 dB: mean absolute difference and correlation;
  /// no correlation if one of them is constant.
  double envelope_db = 0;
  std::optional<double> envelope_correlation;

  /// Means over the windows.
  double log_magnitude() const;
  double convergence() const;
};

/// Of `piece` from `reference`. The definitions are those of train/heartmula_train/codec/distances.py. Throws
/// Error(kUser) if their rates differ or the shorter one has fewer than kLeastFrames frames; `piece_name` and
/// `reference_name` stand for them in messages.
AudioDistances audio_distances(const Audio& piece, const Audio& reference, const std::string& piece_name,
                               const std::string& reference_name, ThreadPool& pool);

}  // namespace heartmula
