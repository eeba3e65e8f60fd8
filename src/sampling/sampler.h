// From logits to a code: guidance, temperature, top-k and the exponential race (lm.md B6, B8; decoding.md 2.1).
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "heartmula/error.h"
#include "sampling/code_chances.h"
#include "sampling/noise.h"
#include "tensor/tensor.h"

namespace heartmula {

struct SamplingSettings {
  int64_t topk = 50;         // clipped to the vocabulary
  float temperature = 1.0f;  // > 0
  float guidance = 1.5f;     // applied above 1

  /// Rows of the language model: guidance needs an unconditional one.
  int64_t streams() const { return guidance > 1.0f ? 2 : 1; }
};

/// How the codes of a song's frames are sampled.
struct SamplingRule {
  SamplingSettings settings = {};
  int64_t min_frames = 0;                                  // the song does not end before, but by its first frame
  int64_t end_code = std::numeric_limits<int64_t>::max();  // codes from here on end a song

  /// Codes that a frame may have: 0 to allowed - 1.
  int64_t allowed(int64_t frame) const {
    return frame == 0 || frame >= min_frames ? std::numeric_limits<int64_t>::max() : end_code;
  }
};

Error logits_not_numbers(int64_t frame, int64_t codebook);

/// What sampling writes on its way.
struct SamplingScratch {
  std::vector<float> guided;  // the logits after guidance, before temperature
  std::vector<float> scaled;
  std::vector<float> sorted;

  void reserve(int64_t vocabulary);
};

/// `logits` [streams, V] f32: conditional, then (with guidance) unconditional. The code is the kept token with the
/// largest l / T - log E; kept are all whose l / T is at least the k-th largest. Ties go to the lowest token. Only the
/// first `allowed` tokens (> 0) take part, in the choice of the k largest, too. -1 if a logit is not a number.
int32_t sample_code(const SamplingSettings& settings, const SamplingNoise& noise, ConstView logits, uint32_t frame,
                    uint32_t codebook, int64_t allowed, SamplingScratch& scratch);

/// What sample_code draws from; nothing if a logit is not a number.
std::optional<CodeChances> chances_of(const SamplingSettings& settings, ConstView logits, int64_t allowed,
                                      SamplingScratch& scratch);

/// sample_code for logits on the host, below each other.
class Sampler {
 public:
  /// `noise` must outlive the sampler.
  Sampler(const SamplingSettings& settings, const SamplingNoise& noise) : settings_(settings), noise_(noise) {}

  /// Throws Error(kFailure) if a logit is not a number.
  int32_t sample(std::span<const float> logits, uint32_t frame, uint32_t codebook,
                 int64_t allowed = std::numeric_limits<int64_t>::max());

  /// The logits of the last sample after guidance, before temperature.
  std::span<const float> guided() const { return scratch_.guided; }

 private:
  SamplingSettings settings_;
  const SamplingNoise& noise_;
  SamplingScratch scratch_;
};

}  // namespace heartmula
