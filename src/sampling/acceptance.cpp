#include "sampling/acceptance.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

namespace heartmula {
namespace {

constexpr double kTypicalShare = 0.3;
constexpr double kTypicalChance = 0.09;
constexpr double kTolerance = std::numbers::ln2;
constexpr float kCosine = 0.45F;

// What the largest of is drawn, but for what all have in common.
double score(const CodeChances& chances, const DrawnCode& drawn, int32_t code) {
  return std::log(chances.of(code)) -
         drawn.noise.log_exponential(drawn.frame, drawn.codebook, static_cast<uint32_t>(code));
}

}  // namespace

bool accepts(LossyAcceptance lossy, const CodeChances& chances, const DrawnCode& drawn, int32_t guess) {
  const double chance = chances.of(guess);
  if (chance == 0) return false;
  switch (lossy) {
    case LossyAcceptance::kNone:
    case LossyAcceptance::kGroup:
      break;
    case LossyAcceptance::kTopk:
      return true;
    case LossyAcceptance::kTypical: {
      double entropy = 0;
      for (const double p : chances.chances) entropy -= p * std::log(p);
      return chance > std::min(kTypicalChance, kTypicalShare * std::exp(-entropy));
    }
    case LossyAcceptance::kTolerance:
      return score(chances, drawn, guess) + kTolerance >= score(chances, drawn, drawn.code);
  }
  return false;
}

CodeGroups::CodeGroups(std::array<std::vector<float>, kCodebooks> vectors, int64_t width)
    : vectors_(std::move(vectors)), width_(width) {
  for (std::vector<float>& codebook : vectors_) {
    for (auto first = codebook.begin(); first != codebook.end(); first += width) {
      const double square = std::inner_product(first, first + width, first, 0.0);
      const auto scale = static_cast<float>(square > 0 ? 1 / std::sqrt(square) : 0);
      std::for_each(first, first + width, [scale](float& value) { value *= scale; });
    }
  }
}

std::span<const float> CodeGroups::vector_of(int64_t codebook, int32_t code) const {
  const std::vector<float>& vectors = vectors_[static_cast<size_t>(codebook)];
  const auto width = static_cast<size_t>(width_);
  const size_t first = static_cast<size_t>(code) * width;
  return code >= 0 && first + width <= vectors.size() ? std::span(vectors).subspan(first, width)
                                                      : std::span<const float>();
}

bool CodeGroups::are_alike(int64_t codebook, int32_t one, int32_t other) const {
  if (one == other) return true;
  if (codebook < kFirstCodebook) return false;
  const std::span<const float> a = vector_of(codebook, one);
  const std::span<const float> b = vector_of(codebook, other);
  if (a.empty() || b.empty()) return false;
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0F) > kCosine;
}

}  // namespace heartmula
