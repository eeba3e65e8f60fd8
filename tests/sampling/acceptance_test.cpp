#include "sampling/acceptance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "sampling/sampler.h"

namespace heartmula {
namespace {

constexpr int64_t kLogits = 40;
constexpr int64_t kAllowedCodes = 35;

std::vector<float> random_logits(std::mt19937& generator) {
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(2 * kLogits);
  for (float& logit : logits) logit = normal(generator);
  return logits;
}

ConstView view_of(const std::vector<float>& logits) {
  return {logits.data(), DType::kF32, 2, kLogits, kLogits};
}

TEST(Acceptance, follows_its_formulas) {
  std::mt19937 generator(3);
  const PhiloxNoise noise(1);
  for (const float temperature : {0.4F, 1.0F, 6.0F}) {
    for (const int64_t topk : {1, 7, 60}) {
      std::vector<float> logits = random_logits(generator);
      const SamplingSettings settings = {topk, temperature, 1.5F};
      // In float64: who is kept, their chances, the entropy.
      std::vector<double> scaled;
      for (size_t v = 0; v < kAllowedCodes; ++v) {
        scaled.push_back((logits[kLogits + v] + 1.5 * (double{logits[v]} - logits[kLogits + v])) / temperature);
      }
      std::vector<double> order = scaled;
      std::ranges::sort(order, std::greater<>());
      order.resize(std::min(order.size(), static_cast<size_t>(topk)));
      double total = 0;
      for (const double x : order) total += std::exp(x);
      double entropy = 0;
      for (const double x : order) entropy -= std::exp(x) / total * std::log(std::exp(x) / total);
      SamplingScratch scratch;
      const CodeChances chances = chances_of(settings, view_of(logits), kAllowedCodes, scratch).value();
      const DrawnCode drawn = {noise, 0, 0, chances.codes[0]};
      for (int32_t v = -1; v <= kLogits; ++v) {
        const bool is_kept = v >= 0 && v < kAllowedCodes && scaled[static_cast<size_t>(v)] >= order.back() - 1e-6;
        const double chance = is_kept ? std::exp(scaled[static_cast<size_t>(v)]) / total : 0;
        EXPECT_NEAR(chances.of(v), chance, 1e-6);
        EXPECT_FALSE(accepts(LossyAcceptance::kNone, chances, drawn, v));
        EXPECT_EQ(accepts(LossyAcceptance::kTopk, chances, drawn, v), is_kept) << v;
        EXPECT_EQ(accepts(LossyAcceptance::kTypical, chances, drawn, v),
                  is_kept && chance > std::min(0.09, 0.3 * std::exp(-entropy)))
            << v;
      }
      logits[3] = std::nanf("");
      EXPECT_EQ(chances_of(settings, view_of(logits), kAllowedCodes, scratch), std::nullopt);
    }
  }
}

TEST(Acceptance, within_tolerance_are_guesses_that_would_be_drawn_if_they_were_twice_as_likely) {
  std::mt19937 generator(4);
  const PhiloxNoise noise(2);
  int accepted = 0;
  for (uint32_t frame = 0; frame < 200; ++frame) {
    const std::vector<float> logits = random_logits(generator);
    const SamplingSettings settings = {.topk = 12, .temperature = 2, .guidance = 1.5F};
    SamplingScratch scratch;
    const CodeChances chances = chances_of(settings, view_of(logits), kAllowedCodes, scratch).value();
    const int32_t code = sample_code(settings, noise, view_of(logits), frame, 5, kAllowedCodes, scratch);
    for (int32_t guess = 0; guess < kAllowedCodes; ++guess) {
      std::vector<float> likelier = logits;
      for (const int64_t row : {0, 1}) likelier[static_cast<size_t>(row * kLogits + guess)] += 2 * std::log(2.0F);
      const bool is_drawn = chances.of(guess) > 0 &&
                            sample_code(settings, noise, view_of(likelier), frame, 5, kAllowedCodes, scratch) == guess;
      EXPECT_EQ(accepts(LossyAcceptance::kTolerance, chances, {noise, frame, 5, code}, guess), is_drawn);
      accepted += is_drawn && guess != code ? 1 : 0;
    }
  }
  EXPECT_GT(accepted, 20);
}

TEST(CodeGroups, are_of_vectors_that_point_the_same_way_in_later_codebooks) {
  constexpr int64_t kWidth = 3;
  constexpr int32_t kCodes = 20;
  std::mt19937 generator(5);
  std::normal_distribution<float> normal(0, 2);
  std::array<std::vector<float>, kCodebooks> vectors;
  for (std::vector<float>& codebook : vectors) {
    for (int64_t i = 0; i < kCodes * kWidth; ++i) codebook.push_back(normal(generator));
  }
  for (int64_t i = 0; i < kWidth; ++i) vectors[6][static_cast<size_t>(2 * kWidth + i)] = 0;
  const CodeGroups groups(vectors, kWidth);
  int alike = 0;
  for (int64_t q = 0; q < kCodebooks; ++q) {
    for (int32_t a = -1; a <= kCodes; ++a) {
      for (int32_t b = -1; b <= kCodes; ++b) {
        double product = 0;
        double square_a = 0;
        double square_b = 0;
        const bool are_known = std::min(a, b) >= 0 && std::max(a, b) < kCodes;
        for (int64_t i = 0; are_known && i < kWidth; ++i) {
          const double x = vectors[static_cast<size_t>(q)][static_cast<size_t>(a * kWidth + i)];
          const double y = vectors[static_cast<size_t>(q)][static_cast<size_t>(b * kWidth + i)];
          product += x * y;
          square_a += x * x;
          square_b += y * y;
        }
        const bool is_near = q >= 4 && product > 0.45 * std::sqrt(square_a * square_b);
        EXPECT_EQ(groups.are_alike(q, a, b), a == b || is_near) << q << ": " << a << ", " << b;
        alike += is_near && a != b ? 1 : 0;
      }
    }
  }
  EXPECT_GT(alike, 100);
}

}  // namespace
}  // namespace heartmula
