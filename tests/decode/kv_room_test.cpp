// Songs that have too few pages for all of them: they rest, go on, and are those that they are alone.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <random>
#include <set>

#include "base/error.h"
#include "base/testing.h"
#include "checkpoint/models.h"
#include "cpu/cpu_ops.h"
#include "decode/draft_settings.h"
#include "decode/frame_loop.h"
#include "lm/kv_pages.h"

namespace heartmula {
namespace {

constexpr int64_t kSongs = 4;
constexpr int64_t kFrames[kSongs] = {620, 300, 540, 260};
constexpr int64_t kPositions = 700;
constexpr int64_t kPagesOfSong = 2 * pages_of(kPositions);

/// What became of the songs of one loop.
struct Made {
  std::vector<std::vector<Frame>> songs = std::vector<std::vector<Frame>>(kSongs);
  std::vector<int> rests = std::vector<int>(kSongs);  // how often each has begun to
  RoomCounts room;
};

class KvRoom : public testing::TestWithParam<DType> {
 protected:
  KvRoom()
      : models_({.checkpoint = {.model_path = std::string(HEARTMULA_TEST_DATA) + "/tiny1", .mula_dtype = GetParam()},
                 .machine = {.threads = 2}},
                CheckpointParts::kAll, nullptr) {
    for (int64_t i = 0; i < kSongs; ++i) {
      prompts_.push_back(make_prompt(models_.tokenizer(), models_.gen_config(), "piano",
                                     std::string(static_cast<size_t>(5 * i), 'l')));
      noises_.emplace_back(static_cast<uint64_t>(i));
    }
  }

  /// The songs `which`, side by side, in `pages` pages.
  Made make(const std::vector<size_t>& which, int64_t pages, const std::string& swap,
            const DraftSettings& drafts = {}) {
    LmBatch batch(
        models_.lm_ops(), models_.lm(),
        {.songs = std::ssize(which), .positions = kPositions, .frames = drafts.frames_of_pass(), .pages = pages});
    FrameLoop loop(batch, drafts.controller(), swap);
    Made made;
    int64_t left = std::ssize(which);
    for (const size_t i : which) {
      loop.enter({.prompt = &prompts_[i],
                  .begin = {},
                  .settings = {.sampling = {},
                               .max_audio_length_ms = (kFrames[i] - 1) * kFrameMs,
                               .audio_eos_id = models_.gen_config().audio_eos_id,
                               .ignore_eos = true,
                               .lossy = lossy_},
                  .noise = &noises_[i],
                  .drafters = drafts.make_drafters(models_.lm_config()),
                  .frame =
                      [&made, i](int64_t number, const Frame& frame) {
                        EXPECT_EQ(number, std::ssize(made.songs[i]));
                        made.songs[i].push_back(frame);
                      },
                  .rests = [&made, i](bool rests) { made.rests[i] += rests ? 1 : 0; },
                  .ended = [&](StopReason) { --left; },
                  .failed = [](std::exception_ptr error) { std::rethrow_exception(error); }});
    }
    while (loop.step()) {
      const RoomCounts room = loop.room();
      EXPECT_GE(room.free, 0);
      made.room = room;
    }
    EXPECT_EQ(left, 0);
    EXPECT_EQ(loop.room().free, loop.room().pages);  // all came back
    return made;
  }

  std::vector<std::vector<Frame>> alone(const DraftSettings& drafts = {}) {
    std::vector<std::vector<Frame>> songs;
    for (size_t i = 0; i < kSongs; ++i) songs.push_back(make({i}, 0, "", drafts).songs[i]);
    return songs;
  }

  Models models_;
  std::vector<Prompt> prompts_;
  std::vector<PhiloxNoise> noises_;
  TemporaryFolder folder_;
  LossyAcceptance lossy_ = LossyAcceptance::kNone;
};

// From the fewest pages that a song can do with to what all can have, so that songs rest at other moments each time.
TEST_P(KvRoom, songs_that_rest_are_the_same) {
  const std::vector<std::vector<Frame>> expected = alone();
  const std::string swap = folder_.path().string();
  for (const int64_t pages : {int64_t{1}, kPagesOfSong + 2, kPagesOfSong + 7, 2 * kPagesOfSong}) {
    for (const std::string& to : {swap, std::string()}) {
      const Made made = make({0, 1, 2, 3}, pages, to);
      EXPECT_EQ(made.songs, expected) << pages << " pages, swap '" << to << "'";
      EXPECT_EQ(made.room.swapped_bytes > 0, made.room.rests > 0 && !to.empty());
      if (pages < 2 * kPagesOfSong) {
        EXPECT_GT(made.room.rests, 0) << pages;
        EXPECT_EQ(made.rests[0], 0) << "the oldest one";
      }
    }
  }
  EXPECT_EQ(make({0, 1, 2, 3}, 0, swap).room.rests, 0);
}

TEST_P(KvRoom, drafted_songs_that_rest_are_the_same) {
  const std::vector<std::vector<Frame>> expected = alone();
  for (const char* drafter : {"riders", "random"}) {
    DraftSettings drafts = DraftSettings::parse("--drafter", drafter);
    drafts.frames = 3;
    EXPECT_EQ(make({0, 1, 2, 3}, kPagesOfSong + 3, folder_.path().string(), drafts).songs, expected) << drafter;
  }
}

// Where guesses change a song, they are verified at the same frames although it rested.
TEST_P(KvRoom, lossy_songs_that_rest_are_the_same) {
  const std::vector<std::vector<Frame>> faithful = alone();
  lossy_ = LossyAcceptance::kTopk;
  DraftSettings drafts = DraftSettings::parse("--drafter", "riders");
  drafts.frames = 2;
  const std::vector<std::vector<Frame>> expected = alone(drafts);
  EXPECT_NE(expected, faithful);
  for (const std::string& swap : {folder_.path().string(), std::string()}) {
    const Made made = make({0, 1, 2, 3}, kPagesOfSong + 2, swap, drafts);
    EXPECT_EQ(made.songs, expected) << "swap '" << swap << "'";
    EXPECT_GT(made.room.rests, 0);
  }
}

// The disk is full, or the folder has gone: the songs are made all the same.
TEST_P(KvRoom, songs_need_no_disk) {
  const std::vector<std::vector<Frame>> expected = alone();
  EXPECT_EQ(make({0, 1, 2, 3}, kPagesOfSong, (folder_.path() / "none").string()).songs, expected);

  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 5000;  // bytes of a file
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Made made = make({0, 1, 2, 3}, kPagesOfSong, folder_.path().string());
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(made.songs, expected);
  EXPECT_EQ(made.room.swapped_bytes, 0);
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

INSTANTIATE_TEST_SUITE_P(Weights, KvRoom, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& weights) { return weights.param == DType::kF32 ? "f32" : "bf16"; });

// Streams grow and go at random; a page is never two streams', and none is lost.
TEST(KvPages, are_given_out_once) {
  constexpr int64_t kStreams = 6;
  constexpr int64_t kOfStream = 5;
  constexpr int64_t kPages = 17;
  const auto ops = make_cpu_ops({.threads = 1});
  KvPages pages(*ops, kStreams, kOfStream, kPages);
  std::mt19937 random(1);
  const auto held = [&](int64_t stream) { return std::ssize(pages.of(stream)); };
  for (int round = 0; round < 5000; ++round) {
    const auto first = static_cast<int64_t>(random() % (kStreams / 2)) * 2;
    const std::vector<int64_t> before = {held(first), held(first + 1)};
    if (random() % 4 == 0) {
      pages.release(first, 2);
      ASSERT_EQ(held(first) + held(first + 1), 0);
    } else {
      const auto count = static_cast<int64_t>(1 + random() % kOfStream);
      const int64_t missing = std::max<int64_t>(0, count - before[0]) + std::max<int64_t>(0, count - before[1]);
      const bool fits = missing <= pages.free();
      ASSERT_EQ(pages.extend(first, 2, count), fits);
      ASSERT_EQ(held(first), fits ? std::max(count, before[0]) : before[0]);
      ASSERT_EQ(held(first + 1), fits ? std::max(count, before[1]) : before[1]);
    }
    std::set<int32_t> seen;
    for (int64_t stream = 0; stream < kStreams; ++stream) {
      for (const int32_t page : pages.of(stream)) {
        ASSERT_TRUE(page >= 0 && page < kPages);
        ASSERT_TRUE(seen.insert(page).second) << page << " is in two streams";
      }
    }
    ASSERT_EQ(std::ssize(seen) + pages.free(), kPages);
  }
}

}  // namespace
}  // namespace heartmula
