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
  std::vector<DraftArm> arms{1, DraftArm{.is_watched = true}};
  int64_t most = 3;

  DraftCounts counts = {};

  /// Seconds for each frame of a song.
  double run() {
    std::mt19937 generator(1);
    std::uniform_real_distribution<double> uniform;
    std::normal_distribution<double> noise(0, 0.03);
    DraftController controller(arms, most);
    double seconds = 0;
    int64_t frame = 0;
    while (frame < kSong) {
      const std::optional<DraftChoice> choice = controller.choose(songs);
      const auto draft_is_right = [&] { return uniform(generator) < right(frame); };
      if (!choice) {
        const double time = 1 + noise(generator);
        controller.plain_step(time, songs);
        for (size_t arm = 0; arm < arms.size(); ++arm) {
          if (!controller.watches(arm)) continue;
          controller.compared(arm, draft_is_right());
          int64_t rest_right = 0;
          for (int q = 1; q < kCodebooks; ++q) rest_right += uniform(generator) < rest(frame) ? 1 : 0;
          controller.compared_rest(arm, rest_right);
        }
        seconds += time;
        ++frame;
        continue;
      }
      const int64_t drafts = choice->frames;
      int64_t accepted = 0;
      while (accepted < drafts && draft_is_right()) ++accepted;
      if (drafts > 0) controller.compared(choice->arm, accepted > 0);
      const double time = step_seconds(drafts) * (1 + noise(generator));
      controller.drafted_step(*choice, time, {.songs = songs, .drafts = drafts * songs, .accepted = accepted * songs});
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
  blind.arms = {{.least_frames = 1}};
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
  good.arms = {{.least_frames = 3}};
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

TEST(DraftController, the_arm_that_pays_most_is_found) {
  Simulation two;  // the first one promises what rows cost again, the second one cannot be watched
  two.arms = {{.is_watched = true}, {.least_frames = 3}};
  two.right = [](int64_t) { return 0.5; };
  two.step_seconds = [](int64_t drafts) { return drafts == 3 ? 1.1 : 1.6; };
  EXPECT_LT(two.run(), 0.65) << "3 drafts give 1.875 frames in 1.1 s";
}

TEST(DraftController, what_was_measured_with_other_songs_is_not_compared) {
  DraftController controller({{.least_frames = 3}}, 3);
  for (int i = 0; i < 200; ++i) controller.plain_step(1, 1);
  EXPECT_NE(controller.choose(1), std::nullopt);
  EXPECT_EQ(controller.choose(2), std::nullopt);
  for (int i = 0; i < 5; ++i) controller.plain_step(1.1, 2);
  ASSERT_NE(controller.choose(2), std::nullopt);
  for (int i = 0; i < 8; ++i) controller.drafted_step(*controller.choose(2), 1.5, {.songs = 2, .drafts = 6});
  EXPECT_EQ(controller.choose(2), std::nullopt) << "1.5 s for what plain decoding makes in 1.1";
}

TEST(DraftController, asked_for_a_number_it_always_drafts_as_many) {
  DraftController always = DraftController::always(2);
  EXPECT_EQ(always.choose(1), (DraftChoice{0, 2}));
  EXPECT_FALSE(always.watches(0));
  for (int i = 0; i < 100; ++i) {
    always.drafted_step({0, 2}, 5, {.drafts = 2});
    EXPECT_EQ(always.choose(1), (DraftChoice{0, 2}));
  }
  EXPECT_EQ(DraftController().choose(1), std::nullopt);
}

TEST(DraftCounts, tell_what_was_read_beside_plain_decoding) {
  const FrameWeights weights = {.backbone = 100, .depth_pass = 10, .head = 2};  // 184 for a frame
  DraftController drafts = DraftController::always(1);
  EXPECT_EQ(drafts.counts().weights_read(weights), 1);
  drafts.plain_step(1, 2);
  EXPECT_EQ(drafts.counts().weights_read(weights), 1);
  // Of two songs in two passes, and then with a frame more for both.
  drafts.drafted_step({0, 1}, 1, {.songs = 2, .depth_passes = 2, .heads = 7});
  EXPECT_DOUBLE_EQ(drafts.counts().weights_read(weights), (184 + 134) / (2 * 184.0));
  drafts.drafted_step({0, 1}, 1, {.songs = 2, .drafts = 2, .accepted = 2, .depth_passes = 1, .heads = 7});
  EXPECT_DOUBLE_EQ(drafts.counts().weights_read(weights), (184 + 134 + 124) / (4 * 184.0));
}

}  // namespace
}  // namespace heartmula
