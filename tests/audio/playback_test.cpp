#include "audio/playback.h"

#include <gtest/gtest.h>

namespace heartmula {
namespace {

constexpr int64_t kSecond = 48'000;

TEST(Playback, waits_for_nothing_where_samples_come_in_time) {
  Playback playback;
  EXPECT_EQ(playback.first_audio_s(), std::nullopt);
  playback.add(1.5, 0);
  EXPECT_EQ(playback.first_audio_s(), std::nullopt);
  playback.add(2, 3 * kSecond);
  playback.add(4.9, kSecond);  // played out at 6
  playback.add(6, kSecond);
  EXPECT_EQ(playback.first_audio_s(), 2);
  EXPECT_EQ(playback.waited_s(), 0);
}

TEST(Playback, waits_whenever_all_has_been_played) {
  Playback playback;
  playback.add(1, kSecond);
  playback.add(2.5, kSecond);  // half a second late: played out at 3.5
  playback.add(3, kSecond);    // at 4.5
  playback.add(5.5, kSecond);
  EXPECT_DOUBLE_EQ(playback.waited_s(), 0.5 + 1);
}

}  // namespace
}  // namespace heartmula
