// Guesses that are taken although another code is drawn. They change the music: level G2 of decoding.md.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/names.h"
#include "heartmula/frame.h"
#include "sampling/code_chances.h"
#include "sampling/noise.h"

namespace heartmula {

enum class LossyAcceptance : uint8_t {
  kNone,
  kTopk,       // those that might have been drawn (Llasa+, arXiv:2508.06262)
  kTypical,    // those whose chance is above min(0.09, 0.3 e^-H), H the entropy (Medusa, arXiv:2401.10774)
  kTolerance,  // those that would be drawn if they were twice as likely beside the others (after arXiv:2505.15380)
  kGroup,      // those that sound like the code that is drawn (CodeGroups; arXiv:2511.13732)
};
inline constexpr Names<LossyAcceptance, 5> kLossyAcceptances = {{{{LossyAcceptance::kNone, "none"},
                                                                  {LossyAcceptance::kTopk, "topk"},
                                                                  {LossyAcceptance::kTypical, "typical"},
                                                                  {LossyAcceptance::kTolerance, "tolerance"},
                                                                  {LossyAcceptance::kGroup, "group"}}}};

/// Which code of a frame is drawn, and by what noise.
struct DrawnCode {
  const SamplingNoise& noise;
  uint32_t frame = 0;
  uint32_t codebook = 0;
  int32_t code = 0;
};

/// Whether `guess` is taken for the code that was drawn from `chances`; by all but kGroup.
bool accepts(LossyAcceptance lossy, const CodeChances& chances, const DrawnCode& drawn, int32_t guess);

/// Codes of the later codebooks whose vectors in the codec point the same way: their cosine is above 0.45. Of the
/// first four codebooks, which hold most of the sound, each code is by itself.
class CodeGroups {
 public:
  static constexpr int64_t kFirstCodebook = 4;

  /// vectors[q] of codebook q: `width` values for each code.
  CodeGroups(std::array<std::vector<float>, kCodebooks> vectors, int64_t width);
  bool are_alike(int64_t codebook, int32_t one, int32_t other) const;

 private:
  std::span<const float> vector_of(int64_t codebook, int32_t code) const;

  std::array<std::vector<float>, kCodebooks> vectors_;  // of length 1, or 0
  int64_t width_;
};

}  // namespace heartmula
