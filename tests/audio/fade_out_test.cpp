#include "audio/fade_out.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace heartmula {
namespace {

struct Faded {
  std::vector<float> left;
  std::vector<float> right;
  std::vector<size_t> before_the_end;  // samples that had left after each piece
};

std::vector<float> ramp(size_t count, float from) {
  std::vector<float> samples(count);
  for (size_t i = 0; i < count; ++i) samples[i] = from + static_cast<float>(i);
  return samples;
}

Faded faded(size_t samples, size_t count, size_t piece, bool fade) {
  Faded result;
  FadeOut out(samples, [&](std::span<const float> left, std::span<const float> right) {
    result.left.insert(result.left.end(), left.begin(), left.end());
    result.right.insert(result.right.end(), right.begin(), right.end());
  });
  const std::vector<float> left = ramp(count, 1);
  const std::vector<float> right = ramp(count, -1000);
  for (size_t first = 0; first < count; first += piece) {
    const size_t length = std::min(piece, count - first);
    out.push(std::span(left).subspan(first, length), std::span(right).subspan(first, length));
    result.before_the_end.push_back(result.left.size());
  }
  out.finish(fade);
  return result;
}

TEST(FadeOut, falls_to_silence_over_the_last_samples) {
  for (const size_t piece : {1, 7, 100, 1000}) {
    const Faded song = faded(40, 333, piece, true);
    ASSERT_EQ(song.left.size(), 333u);
    ASSERT_EQ(song.right.size(), 333u);
    for (size_t i = 0; i < 333; ++i) {
      const double gain = i < 293 ? 1 : std::pow(std::cos(M_PI / 2 * static_cast<double>(i - 292) / 40), 2);
      EXPECT_NEAR(song.left[i], gain * (1.0 + static_cast<double>(i)), 1e-4) << i;
      EXPECT_NEAR(song.right[i], gain * (-1000.0 + static_cast<double>(i)), 1e-4) << i;
    }
    EXPECT_EQ(song.left.back(), 0);
  }
}

TEST(FadeOut, a_song_that_ends_by_itself_is_as_it_was) {
  for (const size_t samples : {0, 40, 1000}) {
    const Faded song = faded(samples, 333, 7, false);
    EXPECT_EQ(song.left, ramp(333, 1));
    EXPECT_EQ(song.right, ramp(333, -1000));
  }
}

TEST(FadeOut, a_song_that_is_shorter_fades_from_its_beginning) {
  const Faded song = faded(1000, 10, 3, true);
  ASSERT_EQ(song.left.size(), 10u);
  EXPECT_NEAR(song.left[4], 2.5, 1e-6);  // the middle: half of 5
  EXPECT_EQ(song.left[9], 0);
}

TEST(FadeOut, holds_back_no_more_than_the_fade) {
  const Faded song = faded(40, 333, 7, true);
  size_t pushed = 0;
  for (const size_t left : song.before_the_end) {
    pushed = std::min<size_t>(pushed + 7, 333);
    EXPECT_EQ(left, pushed < 40 ? 0 : pushed - 40);
  }
  EXPECT_EQ(faded(0, 333, 7, true).before_the_end.back(), 333u);
}

TEST(FadeOut, nothing_stays_nothing) {
  EXPECT_TRUE(faded(40, 0, 1, true).left.empty());
}

}  // namespace
}  // namespace heartmula
