// Songs that are made side by side are those that they are alone, whoever comes and goes.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "checkpoint/models.h"
#include "decode/frame_loop.h"

namespace heartmula {
namespace {

/// A code from here on ends a song: low enough of 69 that some songs end by themselves.
constexpr int32_t kEndCode = 62;

struct Ordered {
  std::string lyrics;
  uint64_t seed = 0;
  int64_t frames = 20;  // at most
  float guidance = 1.5F;
  std::vector<Frame> begin = {};
  float temperature = 1.0F;
};

const std::vector<Ordered>& orders() {
  static const std::vector<Ordered> orders = {
      {"[verse]\nla la la", 7},
      {"[verse]\nlong ago there was a song that nobody sang\nand so on and so forth, and again and again", 8, 31},
      {"", 9, 5, 1.0F},
      {"[chorus]\noh", 10, 17, 2.0F, {}, 0.8F},
      {"[verse]\nla la la", 11, 25, 1.5F, std::vector<Frame>(9, Frame{1, 2, 3, 4, 5, 6, 7, 8})},
      {"na", 12, 1},
      {"na na", 13, 2, 1.0F},
  };
  return orders;
}

struct Made {
  std::vector<Frame> frames;
  StopReason reason = StopReason::kLength;
  bool is_over = false;
  std::exception_ptr error;
};

/// The smallest golden checkpoint.
class SongBatch : public testing::TestWithParam<DType> {
 protected:
  SongBatch()
      : models_({.checkpoint = {.model_path = std::string(HEARTMULA_TEST_DATA) + "/tiny1", .mula_dtype = GetParam()},
                 .machine = {.threads = 2}},
                CheckpointParts::kAll, nullptr) {
    for (const Ordered& order : orders()) {
      prompts_.push_back(make_prompt(models_.tokenizer(), models_.gen_config(), "piano,happy", order.lyrics));
      noises_.emplace_back(order.seed);
    }
    made_.resize(orders().size());
  }

  LmBatch batch(int64_t songs, int64_t piece = 256) {
    return LmBatch(models_.lm_ops(), models_.lm(), {.songs = songs, .positions = 400, .piece = piece});
  }

  SongFrames work(size_t index) {
    const Ordered& order = orders()[index];
    FrameLoopSettings settings{.sampling = {.temperature = order.temperature, .guidance = order.guidance},
                               .max_audio_length_ms = (order.frames - 1) * kFrameMs,
                               .audio_eos_id = kEndCode};
    made_[index] = Made();
    made_[index].frames = order.begin;
    return {.prompt = &prompts_[index],
            .begin = order.begin,
            .settings = settings,
            .noise = &noises_[index],
            .frame =
                [this, index](int64_t number, const Frame& frame) {
                  EXPECT_EQ(number, std::ssize(made_[index].frames));
                  made_[index].frames.push_back(frame);
                },
            .ended =
                [this, index](StopReason reason) {
                  EXPECT_FALSE(made_[index].is_over);
                  made_[index].reason = reason;
                  made_[index].is_over = true;
                },
            .failed =
                [this, index](std::exception_ptr error) {
                  EXPECT_FALSE(made_[index].is_over);
                  made_[index].error = std::move(error);
                  made_[index].is_over = true;
                }};
  }

  /// The songs in this order, as many at once as there is room for.
  std::vector<Made> make(const std::vector<size_t>& order, int64_t at_once, int64_t piece = 256) {
    LmBatch lm = batch(at_once, piece);
    FrameLoop loop(lm);
    size_t next = 0;
    for (bool more = true; more || next < order.size();) {
      while (next < order.size() && loop.has_room()) loop.enter(work(order[next++]));
      more = loop.step();
    }
    return made_;
  }

  std::vector<Made> alone() {
    for (size_t i = 0; i < orders().size(); ++i) make({i}, 1);
    return made_;
  }

  static void expect_same(const std::vector<Made>& made, const std::vector<Made>& alone) {
    for (size_t i = 0; i < alone.size(); ++i) {
      EXPECT_TRUE(made[i].is_over) << i;
      EXPECT_FALSE(made[i].error) << i;
      EXPECT_EQ(made[i].frames, alone[i].frames) << "song " << i;
      EXPECT_EQ(made[i].reason, alone[i].reason) << "song " << i;
    }
  }

  Models models_;
  std::vector<Prompt> prompts_;
  std::vector<PhiloxNoise> noises_;
  std::vector<Made> made_;
};

TEST_P(SongBatch, songs_are_the_same_side_by_side) {
  const std::vector<Made> expected = alone();
  EXPECT_TRUE(std::ranges::any_of(expected, [](const Made& song) { return song.reason == StopReason::kEos; }));
  EXPECT_TRUE(std::ranges::any_of(expected, [](const Made& song) { return song.reason == StopReason::kLength; }));
  for (const int64_t at_once : {2, 3, 7}) expect_same(make({0, 1, 2, 3, 4, 5, 6}, at_once), expected);
  expect_same(make({5, 3, 1, 6, 4, 2, 0}, 3), expected);
  for (const int64_t piece : {1, 7}) expect_same(make({6, 0, 1, 4, 5, 2, 3}, 4, piece), expected);
}

TEST_P(SongBatch, a_song_that_fails_or_is_cancelled_does_not_touch_the_others) {
  const std::vector<Made> expected = alone();
  CancelToken cancel;
  LmBatch lm = batch(4);
  FrameLoop loop(lm);
  SongFrames failing = work(1);
  failing.settings.ignore_eos = true;
  failing.frame = [](int64_t number, const Frame&) {
    if (number == 4) throw Error(ErrorKind::kFailure, "disk full");
  };
  SongFrames cancelled = work(4);
  cancelled.settings.ignore_eos = true;
  cancelled.cancel = &cancel;
  cancelled.frame = [&](int64_t number, const Frame&) {
    if (number == 11) cancel.cancel();
  };
  loop.enter(std::move(failing));
  loop.enter(work(0));
  loop.enter(std::move(cancelled));
  loop.enter(work(3));
  while (loop.step()) {
  }
  for (const size_t index : {size_t{0}, size_t{3}}) EXPECT_EQ(made_[index].frames, expected[index].frames);
  for (const size_t index : {size_t{1}, size_t{4}}) {
    ASSERT_TRUE(made_[index].error);
    try {
      std::rethrow_exception(made_[index].error);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), index == 1 ? ErrorKind::kFailure : ErrorKind::kCancelled);
    }
  }
}

TEST_P(SongBatch, a_song_enters_as_soon_as_there_is_room) {
  const std::vector<Made> expected = alone();
  LmBatch lm = batch(2);
  FrameLoop loop(lm);
  std::vector<size_t> waiting = {3, 1};
  loop.enter(work(0));
  while (loop.step() || !waiting.empty()) {
    if (!loop.has_room() || waiting.empty()) continue;
    loop.enter(work(waiting.back()));
    waiting.pop_back();
  }
  for (const size_t index : {size_t{0}, size_t{1}, size_t{3}}) EXPECT_EQ(made_[index].frames, expected[index].frames);
}

INSTANTIATE_TEST_SUITE_P(Weights, SongBatch, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& weights) { return weights.param == DType::kF32 ? "f32" : "bf16"; });

}  // namespace
}  // namespace heartmula
