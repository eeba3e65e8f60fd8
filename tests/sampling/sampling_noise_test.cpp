#include <cmath>
#include <limits>
#include <vector>

#include "base/testing.h"
#include "sampling/noise.h"
#include "sampling/portable_log.h"

namespace heartmula {
namespace {

// Philox4x32-10 once more, from the paper's figure: words L0, R0, L1, R1.
std::vector<uint64_t> plain_philox(uint64_t c0, uint64_t c1, uint64_t c2, uint64_t c3, uint64_t seed) {
  constexpr uint64_t kWord = 0x100000000;
  uint64_t key0 = seed % kWord;
  uint64_t key1 = seed / kWord;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = c0 * 0xD2511F53;
    const uint64_t p1 = c2 * 0xCD9E8D57;
    c0 = (p1 / kWord) ^ c1 ^ key0;
    c1 = p1 % kWord;
    c2 = (p0 / kWord) ^ c3 ^ key1;
    c3 = p0 % kWord;
    key0 = (key0 + 0x9E3779B9) % kWord;
    key1 = (key1 + 0xBB67AE85) % kWord;
  }
  return {c0, c1, c2, c3};
}

double plain_log_exponential(uint64_t seed, uint32_t frame, uint32_t codebook, uint32_t token) {
  const uint64_t word = plain_philox(token / 4, codebook, frame, 0, seed)[token % 4];
  const double u = (static_cast<double>(word / 512) + 0.5) / 8388608.0;
  return std::log(-std::log(u));
}

/// The distance of `value` from the true logarithm in units of the last place of the latter.
double ulps(double value, double x) {
  const long double exact = std::log(static_cast<long double>(x));
  const auto rounded = static_cast<double>(exact);
  if (rounded == 0) return value == 0 ? 0 : std::numeric_limits<double>::infinity();
  const double unit = std::nextafter(std::fabs(rounded), std::numeric_limits<double>::infinity()) - std::fabs(rounded);
  return static_cast<double>(std::fabs(static_cast<long double>(value) - exact)) / unit;
}

double worst_ulps(const std::vector<double>& values) {
  double worst = 0;
  for (const double x : values) worst = std::max(worst, ulps(portable_log(x), x));
  return worst;
}

TEST(PortableLog, is_within_2_ulp_over_the_whole_range) {
  std::vector<double> values;
  for (double x = std::numeric_limits<double>::min(); x < 1e308; x *= 1.00173) values.push_back(x);
  EXPECT_GT(values.size(), 800'000u);
  EXPECT_LE(worst_ulps(values), 2.0);
}

TEST(PortableLog, is_within_2_ulp_for_what_the_race_asks_for) {
  std::vector<double> values;
  for (uint32_t word = 0; word < (1u << 23); word += 37) {
    const double u = (word + 0.5) * 0x1p-23;
    values.push_back(u);
    values.push_back(-std::log(u));
  }
  for (uint32_t word = 0; word < 5000; ++word) {
    for (const double u : {(word + 0.5) * 0x1p-23, 1 - (word + 0.5) * 0x1p-23}) {
      values.push_back(u);
      values.push_back(-std::log(u));
    }
  }
  EXPECT_LE(worst_ulps(values), 2.0);
}

TEST(PortableLog, is_within_2_ulp_around_one_and_where_its_branches_meet) {
  std::vector<double> values;
  for (const double center : {0.5, std::sqrt(0.5), 1.0, std::sqrt(2.0), 2.0}) {
    double below = center;
    double above = center;
    for (int i = 0; i < 2000; ++i) {
      values.insert(values.end(), {below, above});
      below = std::nextafter(below, 0.0);
      above = std::nextafter(above, 4.0);
    }
    for (double step = 1e-15; step < 0.1; step *= 1.01) values.insert(values.end(), {center - step, center + step});
  }
  EXPECT_LE(worst_ulps(values), 2.0);
  EXPECT_EQ(portable_log(1.0), 0.0);
}

TEST(PhiloxNoise, is_the_logarithm_of_the_specified_exponential) {
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{0x0123456789abcdef}, ~uint64_t{0}}) {
    const PhiloxNoise noise(seed);
    for (const uint32_t frame : {0u, 1u, 3000u, 0xFFFFFFFFu}) {
      for (uint32_t codebook = 0; codebook < 8; ++codebook) {
        for (const uint32_t token : {0u, 1u, 2u, 3u, 4u, 5u, 68u, 8196u}) {
          const double want = plain_log_exponential(seed, frame, codebook, token);
          ASSERT_NEAR(noise.log_exponential(frame, codebook, token), want, 1e-15 * (1 + std::fabs(want)))
              << seed << " " << frame << " " << codebook << " " << token;
        }
      }
    }
  }
}

TEST(PhiloxNoise, is_exponential_with_mean_1) {
  const PhiloxNoise noise(7);
  constexpr int kDraws = 200'000;
  double sum = 0;
  double squares = 0;
  for (uint32_t i = 0; i < kDraws; ++i) {
    const double e = std::exp(noise.log_exponential(i / 1000, i % 8, i % 1000));
    sum += e;
    squares += e * e;
  }
  // Five standard deviations: var(E) = 1, var(E^2) = 20.
  EXPECT_NEAR(sum / kDraws, 1, 5 / std::sqrt(1.0 * kDraws));
  EXPECT_NEAR(squares / kDraws, 2, 5 * std::sqrt(20.0 / kDraws));
}

TEST(TapeNoise, reads_draws_in_the_order_of_sampling) {
  std::vector<float> draws(3 * 2 * 5);
  for (size_t i = 0; i < draws.size(); ++i) draws[i] = 0.25f + static_cast<float>(i);
  const TapeNoise tape(draws, 2, 5);
  EXPECT_NEAR(tape.log_exponential(0, 0, 0), std::log(0.25), 1e-15);
  EXPECT_NEAR(tape.log_exponential(0, 1, 4), std::log(9.25), 1e-15);
  EXPECT_NEAR(tape.log_exponential(2, 1, 4), std::log(29.25), 1e-14);
}

TEST(TapeNoise, ends_with_an_error_that_names_the_frame) {
  const std::vector<float> draws(2 * 2 * 5, 1.0f);
  const TapeNoise tape(draws, 2, 5);
  EXPECT_EQ(error_of(ErrorKind::kUser, [&] { tape.log_exponential(2, 0, 0); }), "the noise tape ends before frame 2");
}

}  // namespace
}  // namespace heartmula
