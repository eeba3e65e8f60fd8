#include "audio/meters.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace heartmula {
namespace {

TEST(LevelMeter, measures_a_sine_in_pieces_of_any_size) {
  std::vector<float> sine(48000);
  for (size_t i = 0; i < sine.size(); ++i) sine[i] = 0.5f * std::sin(0.05f * static_cast<float>(i));
  LevelMeter meter;
  const std::span<const float> all(sine);
  meter.add(all.first(1));
  meter.add(all.subspan(1, 12345));
  meter.add(all.subspan(12346));
  EXPECT_EQ(meter.samples(), 48000);
  EXPECT_NEAR(meter.peak(), 0.5, 1e-4);
  EXPECT_NEAR(meter.rms(), 0.5 / std::sqrt(2.0), 1e-4);
  EXPECT_EQ(meter.clipped(), 0);
  EXPECT_FALSE(meter.silent());
}

TEST(LevelMeter, counts_what_is_wrong) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  LevelMeter meter;
  meter.add(std::vector<float>{1.0f, -1.0f, 1.0001f, -3.0f, nan, 0.0f});
  EXPECT_EQ(meter.clipped(), 2);
  EXPECT_EQ(meter.not_a_number(), 1);
  EXPECT_EQ(meter.peak(), 3.0f);
  meter.add(std::vector<float>{-infinity});
  EXPECT_EQ(meter.peak(), infinity);
  EXPECT_EQ(meter.clipped(), 3);
}

TEST(LevelMeter, silence_is_60_dB_below_full_scale) {
  LevelMeter meter;
  EXPECT_TRUE(meter.silent());
  EXPECT_EQ(meter.rms(), 0.0);
  meter.add(std::vector<float>{0.00099f, -0.00099f});
  EXPECT_TRUE(meter.silent());
  meter.add(std::vector<float>{0.00101f});
  EXPECT_FALSE(meter.silent());
}

}  // namespace
}  // namespace heartmula
