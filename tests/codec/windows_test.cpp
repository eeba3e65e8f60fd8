#include "codec/windows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "codec/noise.h"

namespace heartmula {
namespace {

// codec.md A3, word for word; `whole`: without the reference's fault of not padding some lengths.
WindowPlan plain_plan(int64_t n, bool whole) {
  int64_t length = n < 372 ? 372 : n;
  const auto padded = [&] {
    return static_cast<int64_t>(std::ceil((static_cast<double>(length) - 52) / 320)) * 320 + 52;
  };
  if (whole || (length - 104) % 320 > 0) length = padded();
  WindowPlan plan;
  for (int64_t start = 0; start <= length - 320; start += 320) ++plan.windows;
  const auto target = static_cast<int64_t>(static_cast<double>(n) / 12.5 * 48000);
  plan.samples = std::min<int64_t>(target, 1428480 + (plan.windows - 1) * 1228800);
  return plan;
}

TEST(Windows, plan_follows_the_reference_for_every_length) {
  for (int64_t n = 1; n <= 8192; ++n) {
    const WindowPlan plan = reference_windows(n);
    const WindowPlan expected = plain_plan(n, false);
    ASSERT_EQ(plan.windows, expected.windows) << n;
    ASSERT_EQ(plan.samples, expected.samples) << n;
    ASSERT_EQ(std::ssize(song_windows(WindowScheme::kReference, false, n)), plain_plan(n, true).windows) << n;
  }
}

TEST(Windows, only_the_reference_loses_the_end_of_some_songs) {
  EXPECT_EQ(reference_windows(424).samples, 1428480);
  EXPECT_EQ(song_windows(WindowScheme::kReference, false, 424).back().end(), 692);
}

TEST(Windows, every_code_is_new_in_one_window) {
  for (const WindowScheme scheme : {WindowScheme::kReference, WindowScheme::kEarly}) {
    for (const bool short_last : {false, true}) {
      for (int64_t n = 1; n <= 1500; ++n) {
        const std::vector<Window> windows = song_windows(scheme, short_last, n);
        int64_t covered = 0;
        for (const Window& window : windows) {
          ASSERT_EQ(window.begin + window.context, covered) << n;
          ASSERT_GT(window.codes, window.context) << n;
          ASSERT_LE(window.codes, longest_window(scheme)) << n;
          ASSERT_LE(window.context_latents(), kContextLatents) << n;
          ASSERT_LT(covered, n);
          covered = window.end();
        }
        ASSERT_GE(covered, n);
        if (short_last) {
          ASSERT_EQ(covered, n);
        }
      }
    }
  }
}

TEST(Windows, early_ones_begin_short) {
  EXPECT_EQ(window_at(WindowScheme::kEarly, 0), (Window{0, 93, 0}));
  EXPECT_EQ(window_at(WindowScheme::kEarly, 1), (Window{80, 93, 13}));
  EXPECT_EQ(window_at(WindowScheme::kEarly, 5), (Window{400, 93, 13}));
  EXPECT_EQ(window_at(WindowScheme::kEarly, 6), (Window{480, 186, 13}));
  EXPECT_EQ(window_at(WindowScheme::kEarly, 9), (Window{480 + 3 * 173, 186, 13}));
}

TEST(Windows, joined_samples_equal_a_plain_overlap_and_add) {
  const auto size = static_cast<size_t>(kWindowSamples);
  const auto fade = static_cast<size_t>(kFadeSamples);
  std::vector<std::vector<float>> windows;
  for (int w = 0; w < 3; ++w) {
    std::vector<float> window(size);
    for (size_t i = 0; i < size; ++i) window[i] = std::sin(0.001F * static_cast<float>(i) + static_cast<float>(w));
    windows.push_back(window);
  }
  std::vector<double> expected(windows[0].begin(), windows[0].end());
  for (size_t w = 1; w < windows.size(); ++w) {
    const size_t begin = expected.size() - fade;
    for (size_t i = 0; i < fade; ++i) {
      const double weight = static_cast<double>(i) / static_cast<double>(fade - 1);
      expected[begin + i] = static_cast<float>(expected[begin + i] * (1 - weight) + windows[w][i] * weight);
    }
    expected.insert(expected.end(), windows[w].begin() + static_cast<std::ptrdiff_t>(fade), windows[w].end());
  }
  const size_t end = expected.size() - 1234;

  std::vector<float> left;
  std::vector<float> right;
  WindowJoiner joiner([&](std::span<const float> l, std::span<const float> r) {
    left.insert(left.end(), l.begin(), l.end());
    right.insert(right.end(), r.begin(), r.end());
  });
  joiner.set_end(static_cast<int64_t>(end));
  for (const std::vector<float>& window : windows) joiner.add(window, window);
  EXPECT_LT(left.size(), end);  // the end could still change
  joiner.finish();
  ASSERT_EQ(left.size(), end);
  EXPECT_EQ(left, right);
  for (size_t i = 0; i < end; ++i) ASSERT_NEAR(left[i], expected[i], 1e-7) << i;
}

TEST(CodecNoise, is_standard_normal_and_depends_on_its_place_alone) {
  std::vector<float> noise(744 * 10);
  const PhiloxCodecNoise source(42);
  source.fill(3, 500, noise, 10);
  double sum = 0;
  double squares = 0;
  for (const float value : noise) {
    sum += value;
    squares += static_cast<double>(value) * value;
  }
  const double count = static_cast<double>(noise.size());
  EXPECT_NEAR(sum / count, 0.0, 0.05);
  EXPECT_NEAR(squares / count, 1.0, 0.07);

  std::vector<float> narrow(744 * 6);  // the first six channels, whatever stands beside them
  source.fill(3, 500, narrow, 6);
  for (size_t t = 0; t < 744; ++t) {
    for (size_t c = 0; c < 6; ++c) ASSERT_EQ(narrow[t * 6 + c], noise[t * 10 + c]);
  }
  std::vector<float> other(744 * 10);
  source.fill(3, 501, other, 10);
  EXPECT_NE(other, noise);
  EXPECT_TRUE(std::equal(noise.begin() + 10, noise.end(), other.begin())) << "a latent has its noise in every window";
}

TEST(CodecNoise, is_a_windows_own_if_it_is_keyed_so) {
  const auto fill = [](PhiloxCodecNoise::Key key, int64_t window, int64_t first) {
    std::vector<float> noise(12 * 4);
    PhiloxCodecNoise(7, key).fill(window, first, noise, 4);
    return noise;
  };
  using Key = PhiloxCodecNoise::Key;
  EXPECT_EQ(fill(Key::kWindow, 2, 80), fill(Key::kWindow, 2, 90));
  EXPECT_NE(fill(Key::kWindow, 2, 80), fill(Key::kWindow, 3, 80));
  EXPECT_EQ(fill(Key::kSong, 2, 80), fill(Key::kSong, 3, 80));
  EXPECT_EQ(fill(Key::kSong, 0, 0), fill(Key::kWindow, 0, 0));  // the first window's is the same
}

}  // namespace
}  // namespace heartmula
