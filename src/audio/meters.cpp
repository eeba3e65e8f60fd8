#include "audio/meters.h"

#include <algorithm>
#include <cmath>

namespace heartmula {

void LevelMeter::add(std::span<const float> samples) {
  samples_ += static_cast<int64_t>(samples.size());
  for (const float sample : samples) {
    if (std::isnan(sample)) {
      ++not_a_number_;
      continue;
    }
    const float magnitude = std::fabs(sample);
    peak_ = std::max(peak_, magnitude);
    if (magnitude > 1.0f) ++clipped_;
    sum_of_squares_ += double{sample} * double{sample};
  }
}

double LevelMeter::rms() const {
  return samples_ == 0 ? 0.0 : std::sqrt(sum_of_squares_ / static_cast<double>(samples_));
}

}  // namespace heartmula
