// Songs of round numbers, whose times can be reckoned by hand.
#include "bench/song_time.h"

#include <gtest/gtest.h>

namespace heartmula::bench {
namespace {

// A frame 0.05 s, a guided evaluation of a whole window 3.72 s (0.01 a code), a second of music 0.1 s.
constexpr StageSeconds kStages{.frame = 0.05, .prefill = 2, .flow_step = 3.72, .wave_decoder = 0.1};

// No position costs anything more than another.
SongSeconds seconds_of(const SongShape& song) {
  return song_seconds(song, kStages, 1, 0);
}

TEST(SongTime, windows_one_after_the_other_take_the_sum_of_their_stages) {
  SongShape song{.frames = 692};  // two whole windows
  song.codec.flow.steps = 2;
  const SongSeconds seconds = seconds_of(song);
  EXPECT_NEAR(seconds.first_audio, 2 + 372 * 0.05 + 2 * 3.72 + 29.76 * 0.1, 1e-9);
  EXPECT_NEAR(seconds.total, 2 + 692 * 0.05 + 2 * 2 * 3.72 + 692 * 0.08 * 0.1, 1e-9);
  // The second window's samples come that much later than the first's have been played.
  EXPECT_NEAR(seconds.waited, std::max(0.0, seconds.total - seconds.first_audio - 29.76), 1e-9);
}

TEST(SongTime, fewer_and_unguided_evaluations_and_a_short_last_window_cost_less) {
  SongShape song{.frames = 100};
  song.codec = CodecSettings::of(CodecQuality::kBalanced);  // 9 evaluations, 4.5 guided ones
  const SongSeconds seconds = seconds_of(song);
  EXPECT_NEAR(seconds.total, 2 + 100 * 0.05 + 4.5 * 0.01 * 100 + 8 * 0.1, 1e-9);
  song.codec.short_last_window = false;
  EXPECT_NEAR(seconds_of(song).total - seconds.total, 4.5 * 0.01 * 272, 1e-9);
}

TEST(SongTime, early_windows_are_heard_early) {
  SongShape song{.frames = 173};
  song.codec.windows = WindowScheme::kEarly;
  song.codec.flow.steps = 1;
  const SongSeconds seconds = seconds_of(song);
  const double first = 2 + 93 * 0.05 + 0.93 + 7.44 * 0.1;
  EXPECT_NEAR(seconds.first_audio, first, 1e-9);
  EXPECT_NEAR(seconds.total, first + 80 * 0.05 + 0.93 + 6.4 * 0.1, 1e-9);
  EXPECT_EQ(seconds.waited, 0);
}

TEST(SongTime, a_codec_beside_the_frames_has_its_share_until_they_end) {
  SongShape song{.frames = 692, .codec_share = 0.5};
  song.codec.flow.steps = 1;
  const double first_window = 3.72 + 29.76 * 0.1;  // 6.696 s of work, twice that beside the frames
  const double frames_end = 2 + 692 * 0.05;
  const double first_ends = 2 + 372 * 0.05 + first_window / 0.5;
  ASSERT_LT(first_ends, frames_end);
  EXPECT_NEAR(seconds_of(song).first_audio, first_ends, 1e-9);
  EXPECT_NEAR(seconds_of(song).total, frames_end + 3.72 + 25.6 * 0.1, 1e-9);
  song.codec.flow.steps = 4;  // too long: what is left of it goes at full speed
  const double work = 4 * 3.72 + 29.76 * 0.1;
  const double beside = frames_end - (2 + 372 * 0.05);
  ASSERT_GT(work, beside * 0.5);
  EXPECT_NEAR(seconds_of(song).first_audio, frames_end + work - beside * 0.5, 1e-9);
}

}  // namespace
}  // namespace heartmula::bench
