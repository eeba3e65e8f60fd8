#include "ops/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "cpu/cpu_ops.h"

namespace heartmula {
namespace {

constexpr double kBase = 500000;

std::vector<float> values(Ops& ops, ConstView x) {
  std::vector<float> result(static_cast<size_t>(x.rows * x.cols));
  ops.download(result, x);
  return result;
}

// lm.md B2 in float64.
double scaled_frequency(double frequency) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < 2048) return frequency;
  if (wavelength > 8192) return frequency / 32;
  const double s = (8192 / wavelength - 1) / 3;
  return (1 - s) * frequency / 32 + s * frequency;
}

TEST(Rope, frequencies_agree_with_float64) {
  for (const auto& [head_dim, base] : {std::pair{128, kBase}, {384, kBase}, {16, kBase}, {64, 1e4}, {2, 1e4}}) {
    const std::vector<float> frequencies = rope_frequencies(head_dim, base);
    ASSERT_EQ(frequencies.size(), static_cast<size_t>(head_dim / 2));
    const std::vector<float> scaled = llama3_scaled_frequencies(frequencies, 32);
    for (size_t i = 0; i < frequencies.size(); ++i) {
      const double exact = std::pow(base, -2.0 * static_cast<double>(i) / head_dim);
      EXPECT_NEAR(frequencies[i] / exact, 1, 1e-6) << "pair " << i << " of " << head_dim;
      // The blend multiplies an error of the wavelength by at most a little more than one.
      EXPECT_NEAR(scaled[i] / scaled_frequency(exact), 1, 3e-6) << "pair " << i << " of " << head_dim;
    }
  }
}

TEST(Rope, scaling_begins_and_ends_at_the_known_pairs) {
  struct Boundaries {
    int64_t head_dim;
    size_t first_blended, first_divided;
  };
  for (const Boundaries& b : {Boundaries{128, 29, 35}, Boundaries{384, 85, 105}}) {
    const std::vector<float> plain = rope_frequencies(b.head_dim, kBase);
    const std::vector<float> scaled = llama3_scaled_frequencies(plain, 32);
    for (size_t i = 0; i < plain.size(); ++i) {
      SCOPED_TRACE(testing::Message() << "pair " << i << " of " << b.head_dim);
      if (i < b.first_blended) {
        EXPECT_EQ(scaled[i], plain[i]);
      } else if (i < b.first_divided) {
        EXPECT_LT(scaled[i], plain[i]);
        EXPECT_GT(scaled[i], plain[i] / 32);
      } else {
        EXPECT_EQ(scaled[i], plain[i] / 32);
      }
    }
  }
}

TEST(Rope, tables_agree_with_float64_at_small_positions) {
  const auto ops = make_cpu_ops({.threads = 1, .isa = {}});
  constexpr int64_t kPositions = 70;
  for (const int64_t head_dim : {128, 384, 10}) {
    const Rope rope = make_rope(*ops, llama3_scaled_frequencies(rope_frequencies(head_dim, kBase), 32), kPositions);
    const std::vector<float> cosines = values(*ops, rope.cos);
    const std::vector<float> sines = values(*ops, rope.sin);
    for (int64_t position = 0; position < kPositions; ++position) {
      for (int64_t i = 0; i < head_dim / 2; ++i) {
        const double frequency = scaled_frequency(std::pow(kBase, -2.0 * static_cast<double>(i) / head_dim));
        const double angle = static_cast<double>(position) * frequency;
        const auto at = static_cast<size_t>(position * head_dim / 2 + i);
        ASSERT_NEAR(cosines[at], std::cos(angle), 1e-7 + 1e-6 * angle) << position << ", " << i;
        ASSERT_NEAR(sines[at], std::sin(angle), 1e-7 + 1e-6 * angle) << position << ", " << i;
      }
    }
  }
}

TEST(Rope, angles_are_rounded_to_f32_before_their_cosine) {
  const auto ops = make_cpu_ops({.threads = 1, .isa = {}});
  const std::vector<float> frequencies = rope_frequencies(128, kBase);
  const Rope rope = make_rope(*ops, frequencies, 8192);
  const std::vector<float> cosines = values(*ops, rope.cos.slice_rows(8191, 1));
  const std::vector<float> sines = values(*ops, rope.sin.slice_rows(8191, 1));
  double farthest = 0;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const volatile float angle = 8191.0f * frequencies[i];
    EXPECT_NEAR(cosines[i], std::cos(static_cast<double>(angle)), 6e-8) << i;
    EXPECT_NEAR(sines[i], std::sin(static_cast<double>(angle)), 6e-8) << i;
    farthest = std::max(farthest, std::fabs(cosines[i] - std::cos(8191.0 * frequencies[i])));
  }
  EXPECT_GT(farthest, 1e-5) << "an angle in float64 would differ";
}

}  // namespace
}  // namespace heartmula
