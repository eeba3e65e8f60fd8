// Levels of a song, measured piece by piece.
#pragma once

#include <cstdint>
#include <span>

namespace heartmula {

/// Full scale is 1. Not-a-number samples are counted and otherwise taken for 0.
class LevelMeter {
 public:
  /// Adds a piece of one channel; the pieces may be of any size, the channels in any order.
  void add(std::span<const float> samples);

  /// Samples so far, all channels together.
  int64_t samples() const { return samples_; }
  /// Greatest magnitude; may be above 1, or infinite.
  float peak() const { return peak_; }
  /// Root of the mean square; 0 of nothing.
  double rms() const;
  /// Samples beyond full scale: clipped in every file that does not hold floats.
  int64_t clipped() const { return clipped_; }
  int64_t not_a_number() const { return not_a_number_; }
  /// True if no sample is louder than -60 dB of full scale (also of nothing at all).
  bool silent() const { return peak_ < kSilencePeak; }

 private:
  static constexpr float kSilencePeak = 1e-3f;
  int64_t samples_ = 0;
  int64_t clipped_ = 0;
  int64_t not_a_number_ = 0;
  float peak_ = 0;
  double sum_of_squares_ = 0;
};

}  // namespace heartmula
