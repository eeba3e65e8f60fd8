#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "base/error.h"

namespace heartmula {

Error logits_not_numbers(int64_t frame, int64_t codebook) {
  return failure("frame {}, codebook {}: the language model's logits are not numbers; are its weights damaged?", frame,
                 codebook);
}

int32_t Sampler::sample(std::span<const float> logits, uint32_t frame, uint32_t codebook, int64_t allowed) {
  const size_t vocabulary = logits.size() / static_cast<size_t>(settings_.streams());
  const std::span<const float> conditional = logits.first(vocabulary);
  guided_.assign(conditional.begin(), conditional.end());
  if (settings_.guidance > 1.0f) {
    const std::span<const float> unconditional = logits.subspan(vocabulary);
    for (size_t v = 0; v < vocabulary; ++v) {
      guided_[v] = unconditional[v] + settings_.guidance * (conditional[v] - unconditional[v]);
    }
  }
  scaled_.resize(vocabulary);
  for (size_t v = 0; v < vocabulary; ++v) {
    if (std::isnan(guided_[v])) throw logits_not_numbers(frame, codebook);
    scaled_[v] = guided_[v] / settings_.temperature;
  }

  // The threshold is taken after the division, whose rounding can make ties.
  const size_t tokens = std::min(vocabulary, static_cast<size_t>(allowed));
  const size_t keep = std::min(tokens, static_cast<size_t>(settings_.topk));
  sorted_.assign(scaled_.begin(), scaled_.begin() + static_cast<std::ptrdiff_t>(tokens));
  std::nth_element(sorted_.begin(), sorted_.begin() + static_cast<std::ptrdiff_t>(keep - 1), sorted_.end(),
                   std::greater<>());
  const float threshold = sorted_[keep - 1];

  double best_score = -std::numeric_limits<double>::infinity();
  int32_t best = -1;
  for (size_t v = 0; v < tokens; ++v) {
    if (scaled_[v] < threshold) continue;
    const double score =
        static_cast<double>(scaled_[v]) - noise_.log_exponential(frame, codebook, static_cast<uint32_t>(v));
    if (best < 0 || score > best_score) {
      best_score = score;
      best = static_cast<int32_t>(v);
    }
  }
  return best;
}

}  // namespace heartmula
