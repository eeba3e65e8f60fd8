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

void SamplingScratch::reserve(int64_t vocabulary) {
  for (std::vector<float>* values : {&guided, &scaled, &sorted}) values->reserve(static_cast<size_t>(vocabulary));
}

int32_t sample_code(const SamplingSettings& settings, const SamplingNoise& noise, ConstView logits, uint32_t frame,
                    uint32_t codebook, int64_t allowed, SamplingScratch& scratch) {
  auto& [guided, scaled, sorted] = scratch;
  const auto vocabulary = static_cast<size_t>(logits.cols);
  const auto* conditional = static_cast<const float*>(logits.data);
  guided.assign(conditional, conditional + vocabulary);
  if (settings.guidance > 1.0f) {
    const auto* unconditional = static_cast<const float*>(logits.slice_rows(1, 1).data);
    for (size_t v = 0; v < vocabulary; ++v) {
      guided[v] = unconditional[v] + settings.guidance * (conditional[v] - unconditional[v]);
    }
  }
  scaled.resize(vocabulary);
  for (size_t v = 0; v < vocabulary; ++v) {
    if (std::isnan(guided[v])) return -1;
    scaled[v] = guided[v] / settings.temperature;
  }

  // The threshold is taken after the division, whose rounding can make ties.
  const size_t tokens = std::min(vocabulary, static_cast<size_t>(allowed));
  const size_t keep = std::min(tokens, static_cast<size_t>(settings.topk));
  sorted.assign(scaled.begin(), scaled.begin() + static_cast<std::ptrdiff_t>(tokens));
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(keep - 1), sorted.end(),
                   std::greater<>());
  const float threshold = sorted[keep - 1];

  double best_score = -std::numeric_limits<double>::infinity();
  int32_t best = -1;
  for (size_t v = 0; v < tokens; ++v) {
    if (scaled[v] < threshold) continue;
    const double score =
        static_cast<double>(scaled[v]) - noise.log_exponential(frame, codebook, static_cast<uint32_t>(v));
    if (best < 0 || score > best_score) {
      best_score = score;
      best = static_cast<int32_t>(v);
    }
  }
  return best;
}

int32_t Sampler::sample(std::span<const float> logits, uint32_t frame, uint32_t codebook, int64_t allowed) {
  const int64_t rows = settings_.streams();
  const auto vocabulary = static_cast<int64_t>(logits.size()) / rows;
  const ConstView view(logits.data(), DType::kF32, rows, vocabulary, vocabulary);
  const int32_t code = sample_code(settings_, noise_, view, frame, codebook, allowed, scratch_);
  if (code < 0) throw logits_not_numbers(frame, codebook);
  return code;
}

}  // namespace heartmula
