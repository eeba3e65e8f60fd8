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

namespace {

// Fills scratch.guided and scratch.scaled; gives what a kept token has at least, or nothing if a logit is not a number.
std::optional<float> threshold_of(const SamplingSettings& settings, ConstView logits, int64_t allowed,
                                  SamplingScratch& scratch) {
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
    if (std::isnan(guided[v])) return std::nullopt;
    scaled[v] = guided[v] / settings.temperature;
  }

  // The threshold is taken after the division, whose rounding can make ties.
  const size_t tokens = std::min(vocabulary, static_cast<size_t>(allowed));
  const size_t keep = std::min(tokens, static_cast<size_t>(settings.topk));
  scaled.resize(tokens);
  sorted = scaled;
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(keep - 1), sorted.end(),
                   std::greater<>());
  return sorted[keep - 1];
}

}  // namespace

int32_t sample_code(const SamplingSettings& settings, const SamplingNoise& noise, ConstView logits, uint32_t frame,
                    uint32_t codebook, int64_t allowed, SamplingScratch& scratch) {
  const std::optional<float> threshold = threshold_of(settings, logits, allowed, scratch);
  if (!threshold) return -1;
  double best_score = -std::numeric_limits<double>::infinity();
  int32_t best = -1;
  for (size_t v = 0; v < scratch.scaled.size(); ++v) {
    if (scratch.scaled[v] < *threshold) continue;
    const double score =
        static_cast<double>(scratch.scaled[v]) - noise.log_exponential(frame, codebook, static_cast<uint32_t>(v));
    if (best < 0 || score > best_score) {
      best_score = score;
      best = static_cast<int32_t>(v);
    }
  }
  return best;
}

std::optional<CodeChances> chances_of(const SamplingSettings& settings, ConstView logits, int64_t allowed,
                                      SamplingScratch& scratch) {
  const std::optional<float> threshold = threshold_of(settings, logits, allowed, scratch);
  if (!threshold) return std::nullopt;
  CodeChances chances;
  const double most = std::ranges::max(scratch.scaled);
  double total = 0;
  for (size_t v = 0; v < scratch.scaled.size(); ++v) {
    if (scratch.scaled[v] < *threshold) continue;
    const double share = std::exp(scratch.scaled[v] - most);
    if (share == 0) continue;
    chances.codes.push_back(static_cast<int32_t>(v));
    chances.chances.push_back(share);
    total += share;
  }
  for (double& chance : chances.chances) chance /= total;
  return chances;
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
