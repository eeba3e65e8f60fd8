#include "sampling/sampler.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "base/testing.h"

namespace heartmula {
namespace {

using testing::HasSubstr;

/// The same log E for each frame, token by token; 0 (E = 1) beyond the list.
class FixedNoise final : public SamplingNoise {
 public:
  explicit FixedNoise(std::vector<double> log_exponentials = {}) : values_(std::move(log_exponentials)) {}
  double log_exponential(uint32_t, uint32_t, uint32_t token) const override {
    return token < values_.size() ? values_[token] : 0.0;
  }

 private:
  std::vector<double> values_;
};

/// Noise with which `token` wins against any other that is kept.
FixedNoise favour(uint32_t token) {
  std::vector<double> values(token + 1, 0.0);
  values[token] = -1000;
  return FixedNoise(values);
}

int32_t sample(const std::vector<float>& logits, const SamplingSettings& settings, const SamplingNoise& noise) {
  return Sampler(settings, noise).sample(logits, 0, 0);
}

TEST(Sampler, takes_the_largest_of_logit_minus_log_noise) {
  const FixedNoise noise({-0.5, 0.25, 1.0, -2.25});
  EXPECT_EQ(sample({1.0f, 2.0f, 3.0f, 0.0f}, {4, 1.0f, 1.0f}, noise), 3) << "scores 1.5, 1.75, 2, 2.25";
}

TEST(Sampler, keeps_every_token_that_ties_with_the_kth) {
  const std::vector<float> logits = {1.0f, 2.0f, 3.0f, 2.0f, 2.0f, 1.0f};
  for (const uint32_t token : {1u, 2u, 3u, 4u}) {
    EXPECT_EQ(sample(logits, {2, 1.0f, 1.0f}, favour(token)), static_cast<int32_t>(token));
  }
  for (const uint32_t token : {0u, 5u}) {
    EXPECT_EQ(sample(logits, {2, 1.0f, 1.0f}, favour(token)), 2) << "below the threshold";
  }
}

TEST(Sampler, gives_the_lowest_token_when_scores_are_equal) {
  EXPECT_EQ(sample({0.0f, 2.0f, 2.0f, 2.0f}, {4, 1.0f, 1.0f}, FixedNoise()), 1);
  EXPECT_EQ(sample({0.0f, 1.5f, 2.0f, 1.0f}, {4, 1.0f, 1.0f}, FixedNoise({0, -0.5, 0, -1})), 1);
}

TEST(Sampler, clips_k_to_the_vocabulary) {
  const std::vector<float> logits = {-50.0f, 1.0f, 2.0f};
  for (const int64_t k : {3, 4, 50, 1 << 20}) EXPECT_EQ(sample(logits, {k, 1.0f, 1.0f}, favour(0)), 0) << k;
  EXPECT_EQ(sample(logits, {2, 1.0f, 1.0f}, favour(0)), 2);
}

TEST(Sampler, k_1_takes_the_greatest_logit_whatever_the_noise) {
  for (uint32_t token = 0; token < 4; ++token) {
    EXPECT_EQ(sample({0.5f, -1.0f, 0.75f, 0.0f}, {1, 0.7f, 1.0f}, favour(token)), 2);
  }
}

// The threshold is taken after the division: two logits that it rounds to one value are both kept.
TEST(Sampler, divides_by_the_temperature_before_the_threshold) {
  constexpr float kTemperature = 3.0f;
  float low = 1.0f;
  while (low / kTemperature != std::nextafter(low, 2.0f) / kTemperature) low = std::nextafter(low, 2.0f);
  const float high = std::nextafter(low, 2.0f);
  ASSERT_LT(low, high);
  EXPECT_EQ(sample({0.0f, low, high}, {1, kTemperature, 1.0f}, favour(1)), 1);
  EXPECT_EQ(sample({0.0f, low, high}, {1, 1.0f, 1.0f}, favour(1)), 2) << "apart without the division";
}

TEST(Sampler, temperature_weighs_the_logits_against_the_noise) {
  const FixedNoise noise({0, -1});
  EXPECT_EQ(sample({2.0f, 0.5f}, {2, 1.0f, 1.0f}, noise), 0);
  EXPECT_EQ(sample({2.0f, 0.5f}, {2, 2.0f, 1.0f}, noise), 1);
}

TEST(Sampler, guides_away_from_the_unconditional_logits) {
  const FixedNoise noise;
  Sampler sampler({4, 1.0f, 1.5f}, noise);
  const std::vector<float> logits = {1.0f, 0.0f, 1.5f, -2.0f, 0.0f, 0.0f, 1.5f, -4.0f};
  EXPECT_EQ(sampler.sample(logits, 0, 0), 0);
  EXPECT_THAT(sampler.guided(), testing::ElementsAre(1.5f, 0.0f, 1.5f, -1.0f));
}

TEST(Sampler, guidance_of_1_and_below_has_one_stream) {
  for (const float guidance : {1.0f, 0.8f, 0.0f}) {
    const SamplingSettings settings{4, 1.0f, guidance};
    EXPECT_EQ(settings.streams(), 1);
    const FixedNoise noise;
    Sampler sampler(settings, noise);
    const std::vector<float> logits = {1.0f, 4.0f, 1.5f, -2.0f};
    EXPECT_EQ(sampler.sample(logits, 0, 0), 1);
    EXPECT_THAT(sampler.guided(), testing::ElementsAreArray(logits));
  }
  EXPECT_EQ((SamplingSettings{50, 1.0f, 1.0001f}.streams()), 2);
}

TEST(Sampler, frequencies_are_the_softmax_of_the_kept_logits) {
  const std::vector<float> logits = {0.3f, -1.0f, 1.1f, 0.9f, -3.0f, 0.31f, 0.0f};
  constexpr float kTemperature = 0.7f;
  constexpr uint32_t kFrames = 20'000;
  const std::vector<bool> kept = {true, false, true, true, false, true, true};  // the five largest
  double total = 0;
  for (size_t v = 0; v < logits.size(); ++v) total += kept[v] ? std::exp(logits[v] / kTemperature) : 0;
  for (const uint64_t seed : {3u, 4u}) {
    const PhiloxNoise noise(seed);
    Sampler sampler({5, kTemperature, 1.0f}, noise);
    for (const uint32_t codebook : {0u, 7u}) {
      std::vector<int> counts(logits.size());
      for (uint32_t frame = 0; frame < kFrames; ++frame) {
        ++counts[static_cast<size_t>(sampler.sample(logits, frame, codebook))];
      }
      for (size_t v = 0; v < logits.size(); ++v) {
        const double p = kept[v] ? std::exp(logits[v] / kTemperature) / total : 0;
        EXPECT_NEAR(counts[v], kFrames * p, 4.5 * std::sqrt(kFrames * p * (1 - p)))
            << "token " << v << ", codebook " << codebook << ", seed " << seed;
      }
    }
  }
}

TEST(Sampler, codebooks_and_frames_draw_independently) {
  const std::vector<float> logits(64, 0.0f);
  const PhiloxNoise noise(11);
  Sampler sampler({64, 1.0f, 1.0f}, noise);
  int same_as_next_frame = 0;
  int same_as_next_codebook = 0;
  constexpr uint32_t kFrames = 4000;
  for (uint32_t frame = 0; frame < kFrames; ++frame) {
    const int32_t token = sampler.sample(logits, frame, 0);
    same_as_next_frame += token == sampler.sample(logits, frame + 1, 0);
    same_as_next_codebook += token == sampler.sample(logits, frame, 1);
  }
  const double want = kFrames / 64.0;
  EXPECT_NEAR(same_as_next_frame, want, 5 * std::sqrt(want));
  EXPECT_NEAR(same_as_next_codebook, want, 5 * std::sqrt(want));
}

TEST(Sampler, the_same_draw_does_not_depend_on_the_draws_before) {
  std::mt19937 generator(5);
  std::normal_distribution<float> normal;
  std::vector<float> logits(69);
  for (float& logit : logits) logit = normal(generator);
  const PhiloxNoise noise(12);
  const SamplingSettings settings{20, 1.0f, 1.0f};
  Sampler in_order(settings, noise);
  for (uint32_t frame = 0; frame < 50; ++frame) {
    const int32_t token = in_order.sample(logits, frame, 3);
    EXPECT_EQ(Sampler(settings, noise).sample(logits, frame, 3), token);
  }
}

// lm.md B8 in float64, over the first `allowed` tokens and no others.
int32_t plain_sample(std::span<const float> logits, size_t k, double temperature, const SamplingNoise& noise,
                     uint32_t frame, size_t allowed) {
  std::vector<double> scaled;
  for (size_t v = 0; v < allowed; ++v) scaled.push_back(double{logits[v]} / temperature);
  std::vector<double> sorted = scaled;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  const double threshold = sorted[std::min(k, allowed) - 1];
  int32_t best = -1;
  double best_ratio = 0;
  for (size_t v = 0; v < allowed; ++v) {
    if (scaled[v] < threshold) continue;
    const double ratio = std::exp(scaled[v]) / std::exp(noise.log_exponential(frame, 2, static_cast<uint32_t>(v)));
    if (best < 0 || ratio > best_ratio) {
      best = static_cast<int32_t>(v);
      best_ratio = ratio;
    }
  }
  return best;
}

TEST(Sampler, tokens_that_are_not_allowed_take_no_part) {
  std::mt19937 generator(6);
  std::normal_distribution<float> normal(0, 2);
  const PhiloxNoise noise(13);
  constexpr size_t kVocabulary = 69;
  constexpr size_t kAllowed = 60;
  int changed = 0;
  int unchanged = 0;
  for (const size_t k : {1u, 5u, 60u, 64u, 500u}) {
    Sampler sampler({static_cast<int64_t>(k), 0.8f, 1.0f}, noise);
    for (uint32_t frame = 0; frame < 300; ++frame) {
      std::vector<float> logits(kVocabulary);
      for (float& logit : logits) logit = normal(generator);
      const int32_t token = sampler.sample(logits, frame, 2, kAllowed);
      ASSERT_EQ(token, plain_sample(logits, k, 0.8f, noise, frame, kAllowed)) << "k " << k << ", frame " << frame;
      // The same as without a limit where no token beyond it is among the k largest.
      const int32_t free = sampler.sample(logits, frame, 2);
      ASSERT_EQ(free, plain_sample(logits, k, 0.8f, noise, frame, kVocabulary));
      std::vector<float> sorted = logits;
      std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(std::min(k, kVocabulary) - 1),
                       sorted.end(), std::greater<>());
      const float threshold = sorted[std::min(k, kVocabulary) - 1];
      const bool has_one =
          std::any_of(logits.begin() + kAllowed, logits.end(), [&](float l) { return l >= threshold; });
      if (!has_one) {
        ASSERT_EQ(token, free);
      }
      changed += token != free;
      unchanged += !has_one;
    }
  }
  EXPECT_GT(changed, 20);
  EXPECT_GT(unchanged, 200);
}

TEST(Sampler, refuses_logits_that_are_not_numbers) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const FixedNoise noise;
  Sampler sampler({2, 1.0f, 1.0f}, noise);
  const std::vector<float> logits = {0.0f, 1.0f, nan, 2.0f};
  EXPECT_THAT(error_of(ErrorKind::kFailure, [&] { sampler.sample(logits, 17, 5); }), HasSubstr("frame 17, codebook 5"));
  Sampler guided({2, 1.0f, 1.5f}, noise);
  const std::vector<float> pair = {0.0f, infinity, 0.0f, infinity};
  EXPECT_THAT(error_of(ErrorKind::kFailure, [&] { guided.sample(pair, 0, 0); }), HasSubstr("not numbers"));
}

TEST(Sampler, a_token_with_logit_minus_infinity_is_never_taken_while_another_is_kept) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(sample({-infinity, 0.0f, -infinity}, {3, 1.0f, 1.0f}, favour(0)), 1);
}

}  // namespace
}  // namespace heartmula
