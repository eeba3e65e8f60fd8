#include "measure/loudness.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "measure/signals.h"

namespace heartmula {
namespace {

double amplitude_of_db(double db) {
  return std::pow(10, db / 20);
}

Audio stereo(const Samples& samples, int rate_hz = 48000) {
  return {.rate_hz = rate_hz, .channels = {samples, samples}};
}

/// ITU-R BS.1770-4, Annex 1: its filters for 48 kHz, blocks of 400 ms every 100 ms, both gates.
double reference_loudness(const Audio& audio) {
  constexpr std::array<double, 5> kShelf = {1.53512485958697, -2.69169618940638, 1.19839281085285, -1.69065929318241,
                                            0.73248077421585};
  constexpr std::array<double, 5> kHighPass = {1, -2, 1, -1.99004745483398, 0.99007225036621};
  const size_t step = 4800;
  const size_t blocks = audio.frames() / step - 3;
  std::vector<double> power(blocks);
  for (const std::vector<float>& channel : audio.channels) {
    std::vector<double> x(channel.begin(), channel.end());
    for (const auto& [b0, b1, b2, a1, a2] : {kShelf, kHighPass}) {
      double x1 = 0, x2 = 0, y1 = 0, y2 = 0;
      for (double& sample : x) {
        const double y = b0 * sample + b1 * x1 + b2 * x2 - a1 * y1 - a2 * y2;
        x2 = x1, x1 = sample, y2 = y1, y1 = y;
        sample = y;
      }
    }
    for (size_t block = 0; block < blocks; ++block) {
      for (size_t i = 0; i < 4 * step; ++i) power[block] += std::pow(x[block * step + i], 2) / (4.0 * step);
    }
  }
  const auto loudness = [](double p) { return -0.691 + 10 * std::log10(p); };
  const auto gated_mean = [&](double gate) {
    double sum = 0;
    int count = 0;
    for (const double p : power) {
      if (loudness(p) > gate) sum += p, ++count;
    }
    return sum / count;
  };
  return loudness(gated_mean(loudness(gated_mean(-70)) - 10));
}

TEST(Loudness, of_a_sine_is_its_level) {
  // BS.1770: 997 Hz at full scale in one channel is -3.01 LKFS; in both, 0.
  EXPECT_NEAR(integrated_loudness(stereo(sine(amplitude_of_db(-20), 997, 5))), -20, 0.02);
  EXPECT_NEAR(integrated_loudness(stereo(sine(amplitude_of_db(-23), 997, 5, 44100), 44100)), -23, 0.02);
  const Audio mono = {.rate_hz = 48000, .channels = {sine(1, 997, 5)}};
  EXPECT_NEAR(integrated_loudness(mono), -3.01, 0.02);
}

TEST(Loudness, leaves_out_what_is_much_quieter) {
  // EBU Tech 3341, case 3: -36, -23, -36 dBFS are -23 LUFS.
  Samples samples = sine(amplitude_of_db(-36), 1000, 10);
  const Samples loud = sine(amplitude_of_db(-23), 1000, 60);
  const Samples quiet = samples;
  samples.insert(samples.end(), loud.begin(), loud.end());
  samples.insert(samples.end(), quiet.begin(), quiet.end());
  EXPECT_NEAR(integrated_loudness(stereo(samples)), -23, 0.1);
}

TEST(Loudness, agrees_with_the_recommendation) {
  Audio audio = {.rate_hz = 48000, .channels = {noise(0.3, 48000 * 6, 1), noise(0.1, 48000 * 6, 2)}};
  for (std::vector<float>& samples : audio.channels) {
    std::for_each(samples.begin(), samples.begin() + 48000, [](float& sample) { sample *= 0.05f; });
    std::for_each(samples.begin() + 48000, samples.begin() + 96000, [](float& sample) { sample *= 1e-5f; });
  }
  EXPECT_NEAR(integrated_loudness(audio), reference_loudness(audio), 0.01);
}

TEST(Loudness, of_silence_and_of_next_to_nothing_is_minus_infinity) {
  EXPECT_EQ(integrated_loudness(stereo(Samples(48000))), -INFINITY);
  EXPECT_EQ(integrated_loudness(stereo(sine(1, 997, 0.1))), -INFINITY);
}

}  // namespace
}  // namespace heartmula
