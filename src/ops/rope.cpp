#include "ops/rope.h"

#include <cmath>
#include <numbers>

namespace heartmula {
namespace {

// Constants of the scaling, not the model's max_seq_len (using that costs 0.1 to 0.3 of RMS).
constexpr float kOldContext = 8192.0f;
constexpr float kLowFrequencyFactor = 1.0f;
constexpr float kHighFrequencyFactor = 4.0f;

}  // namespace

std::vector<float> rope_frequencies(int64_t head_dim, double base) {
  std::vector<float> frequencies;
  for (int64_t i = 0; i < head_dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(head_dim);
    frequencies.push_back(1.0f / static_cast<float>(std::pow(base, exponent)));
  }
  return frequencies;
}

std::vector<float> llama3_scaled_frequencies(std::vector<float> frequencies, double scale_factor) {
  const float factor = static_cast<float>(scale_factor);
  for (float& frequency : frequencies) {
    const float wavelength = static_cast<float>(2.0 * std::numbers::pi) / frequency;
    if (wavelength < kOldContext / kHighFrequencyFactor) continue;
    if (wavelength > kOldContext / kLowFrequencyFactor) {
      frequency = frequency / factor;
      continue;
    }
    const float smooth =
        (kOldContext / wavelength - kLowFrequencyFactor) / (kHighFrequencyFactor - kLowFrequencyFactor);
    frequency = (1.0f - smooth) * frequency / factor + smooth * frequency;
  }
  return frequencies;
}

Rope make_rope(Ops& ops, const std::vector<float>& frequencies, int64_t positions) {
  const auto pairs = static_cast<int64_t>(frequencies.size());
  std::vector<float> cosines;
  std::vector<float> sines;
  cosines.reserve(static_cast<size_t>(positions * pairs));
  sines.reserve(static_cast<size_t>(positions * pairs));
  for (int64_t position = 0; position < positions; ++position) {
    for (const float frequency : frequencies) {
      const double angle = static_cast<float>(position) * frequency;
      cosines.push_back(static_cast<float>(std::cos(angle)));
      sines.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  Rope rope{ops.allocate(DType::kF32, positions, pairs), ops.allocate(DType::kF32, positions, pairs)};
  ops.upload(rope.cos, cosines);
  ops.upload(rope.sin, sines);
  return rope;
}

}  // namespace heartmula
