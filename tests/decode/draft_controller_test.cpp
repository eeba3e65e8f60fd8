// A simulated machine and drafter: how long a song takes with the controller's choices.
#include "decode/draft_controller.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

namespace heartmula {
namespace {

constexpr int64_t kSong = 2250;  // frames

struct Simulation {
  std::function<double(int64_t frame)> right = [](int64_t) { return 0.0; };  // chance of a whole frame
  std::function<double(int64_t frame)> rest = [](int64_t) { return 0.0; };   // and of a code behind the known ones
  std::function<double(int64_t drafts)> step_seconds = [](int64_t) { return 1.0; };  // plain decoding takes 1
  int64_t songs = 1;
  bool watched = true;
  int64_t most = 3;

  DraftCounts counts = {};

  /// Seconds for each frame of a song.
  double run() {
    std::mt19937 generator(1);
    std::uniform_real_distribution<double> uniform;
    std::normal_distribution<double> noise(0, 0.03);
    DraftController controller(most, false, watched);
    double seconds = 0;
    int64_t frame = 0;
    while (frame < kSong) {
      const std::optional<int64_t> drafts = controller.frames();
      const auto draft_is_right = [&] { return uniform(generator) < right(frame); };
      if (!drafts) {
        const double time = 1 + noise(generator);
        controller.plain_step(time, songs);
        if (controller.watches()) {
          controller.compared(draft_is_right() ? kCodebooks : 2);
          int64_t rest_right = 0;
          for (int q = 1; q < kCodebooks; ++q) rest_right += uniform(generator) < rest(frame) ? 1 : 0;
          controller.compared_rest(rest_right);
        }
        seconds += time;
        ++frame;
        continue;
      }
      int64_t accepted = 0;
      while (accepted < *drafts && draft_is_right()) ++accepted;
      if (*drafts > 0) controller.compared(accepted > 0 ? kCodebooks : 2);
      const double time = step_seconds(*drafts) * (1 + noise(generator));
      controller.drafted_step(time, songs, *drafts * songs, accepted * songs);
      seconds += time;
      frame += 1 + accepted;
    }
    counts = controller.counts();
    return seconds / static_cast<double>(frame);
  }
};

TEST(DraftController, drafts_that_are_seen_to_be_useless_are_not_tried) {
  Simulation useless;
  useless.step_seconds = [](int64_t drafts) { return 1 + 0.2 * static_cast<double>(drafts); };
  EXPECT_LT(useless.run(), 1.005);
  EXPECT_EQ(useless.counts.drafted_steps, 0);
  EXPECT_EQ(useless.counts.plain_steps, kSong);
}

TEST(DraftController, trials_that_do_not_pay_cost_at_most_two_per_cent) {
  Simulation blind;  // as an early exit: nothing to watch, each draft costs nearly a frame
  blind.watched = false;
  blind.step_seconds = [](int64_t drafts) { return 1 + 0.9 * static_cast<double>(drafts); };
  EXPECT_LT(blind.run(), 1.02);
  EXPECT_GT(blind.counts.trials, 0);

  Simulation slow;  // guesses are good, but rows cost too much on this machine
  slow.right = [](int64_t) { return 0.9; };
  slow.step_seconds = [](int64_t drafts) { return 1 + 1.5 * static_cast<double>(drafts); };
  EXPECT_LT(slow.run(), 1.02);
  EXPECT_GT(slow.counts.trials, 0);
}

TEST(DraftController, drafts_that_pay_are_used) {
  Simulation good;
  good.right = [](int64_t) { return 0.9; };
  good.step_seconds = [](int64_t drafts) { return 1 + 0.05 * static_cast<double>(drafts); };
  EXPECT_LT(good.run(), 0.42) << "3 drafts give 3.4 frames in 1.15 s";
  good.watched = false;
  EXPECT_LT(good.run(), 0.46);
  EXPECT_GT(good.counts.drafted_steps, good.counts.plain_steps);

  Simulation rest;  // no frame is right, but the rest of one nearly always
  rest.rest = [](int64_t) { return 0.8; };
  rest.step_seconds = [](int64_t drafts) { return 0.75 + 0.3 * static_cast<double>(drafts); };
  EXPECT_LT(rest.run(), 0.8);
  EXPECT_EQ(rest.counts.drafted_frames, 0);
}

TEST(DraftController, it_notices_when_the_music_changes) {
  Simulation changing;  // a verse that repeats itself, then one that does not
  changing.right = [](int64_t frame) { return frame < kSong / 2 ? 0.9 : 0.0; };
  changing.step_seconds = [](int64_t drafts) { return 1 + 0.1 * static_cast<double>(drafts); };
  EXPECT_LT(changing.run(), 0.5 * 0.5 + 0.5 * 1.04);
  changing.right = [](int64_t frame) { return frame < kSong / 2 ? 0.0 : 0.9; };
  EXPECT_LT(changing.run(), 0.5 * 1.02 + 0.5 * 0.5);
}

TEST(DraftController, asked_for_a_number_it_always_drafts_as_many) {
  DraftController always(2, true, true);
  EXPECT_EQ(always.frames(), 2);
  EXPECT_FALSE(always.watches());
  for (int i = 0; i < 100; ++i) {
    always.drafted_step(5, 1, 2, 0);
    EXPECT_EQ(always.frames(), 2);
  }
  EXPECT_EQ(DraftController(0, false, false).frames(), std::nullopt) << "there is nothing to go by yet";
}

}  // namespace
}  // namespace heartmula
