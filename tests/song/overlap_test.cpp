// The search for a split is fed with times; songs are the same with every split.
#include "song/overlap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/testing.h"
#include "cpu/cpu_ops.h"
#include "heartmula/error.h"
#include "song/song_file.h"
#include "song/testing.h"

namespace heartmula {
namespace {

/// Lets the search see frames of these times (of the codec's threads; 0: alone) until it has decided.
OverlapSearch searched(int threads, const std::function<double(int codec_threads)>& seconds) {
  OverlapSearch search({}, threads);
  for (int frame = 0; frame < 1000 && !search.decided(); ++frame) {
    search.add_frame(seconds(search.codec_threads()), search.codec_threads() > 0);
  }
  EXPECT_TRUE(search.decided());
  return search;
}

TEST(OverlapSearch, shares_where_memory_stays_fast_with_fewer_threads) {
  // Two threads read 30 GB/s, one 20: 20 / 30 + 1 / 2 of the codec.
  const OverlapSearch search = searched(2, [](int codec) { return codec == 0 ? 1.0 : 1.5; });
  EXPECT_EQ(search.codec_threads(), 1);
  EXPECT_NEAR(search.gain(), 20.0 / 30 + 0.5, 1e-9);
}

TEST(OverlapSearch, does_not_share_where_frames_need_every_thread) {
  const OverlapSearch search = searched(2, [](int codec) { return codec == 0 ? 1.0 : 2.0; });
  EXPECT_EQ(search.codec_threads(), 0);
  EXPECT_EQ(search.gain(), 1);
}

TEST(OverlapSearch, gives_the_codec_as_many_as_pay) {
  // Memory is saturated by four of 16 threads: eight for the codec cost the frames nothing, 15 would.
  const OverlapSearch search = searched(16, [](int codec) { return codec <= 12 ? 1.0 : 4.0; });
  EXPECT_EQ(search.codec_threads(), 8);
  EXPECT_NEAR(search.gain(), 1.5, 1e-9);
}

TEST(OverlapSearch, is_not_misled_by_single_slow_frames_and_the_first_after_a_change) {
  int frame = 0;
  int last = 0;
  const OverlapSearch search = searched(2, [&](int codec) {
    const bool changed = codec != last;
    last = codec;
    if (changed || ++frame % 5 == 0) return 9.0;
    return codec == 0 ? 1.0 : 1.25;
  });
  EXPECT_EQ(search.codec_threads(), 1);
}

TEST(OverlapSearch, frames_of_the_other_kind_do_not_count) {
  OverlapSearch search({}, 2);
  for (int i = 0; i < 100; ++i) search.add_frame(1.0, true);
  EXPECT_EQ(search.codec_threads(), 0);
  EXPECT_FALSE(search.decided());
}

TEST(OverlapSearch, a_wish_is_kept_and_one_thread_is_not_shared) {
  EXPECT_EQ(OverlapSearch(3, 8).codec_threads(), 3);
  EXPECT_TRUE(OverlapSearch(3, 8).decided());
  EXPECT_EQ(OverlapSearch(0, 8).codec_threads(), 0);
  EXPECT_EQ(OverlapSearch({}, 1).codec_threads(), 0);
  EXPECT_TRUE(OverlapSearch({}, 1).decided());
}

TEST(Overlap, more_threads_than_can_be_spared_are_refused) {
  const auto lm = make_cpu_ops({.threads = 2, .isa = {}});
  const auto codec = make_cpu_ops({.threads = 2, .isa = {}});
  EXPECT_NO_THROW(Overlap(1, *lm, *codec));
  EXPECT_THROW(Overlap(2, *lm, *codec), Error);
}

TEST(Overlap, stages_on_devices_of_their_own_just_work) {
  const auto lm = make_cpu_ops({.threads = 1, .isa = {}});
  const auto codec = make_cpu_ops({.threads = 2, .isa = {}});
  const CancelToken none;
  Overlap both({}, *lm, *codec, /*share_threads=*/false);
  EXPECT_EQ(both.codec_threads(), std::nullopt);
  both.begin_piece(none);  // returns at once, before any frame
  for (int i = 0; i < 50; ++i) both.frame_done(1);
  both.begin_piece(none);
  EXPECT_EQ(both.gain(), 1);
  Overlap waits(0, *lm, *codec, /*share_threads=*/false);
  EXPECT_EQ(waits.codec_threads(), 0);
  waits.frames_ended();
  waits.begin_piece(none);
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { Overlap(1, *lm, *codec, /*share_threads=*/false); }),
              testing::HasSubstr("--overlap 1"));
}

TEST(Overlap, the_first_window_that_shall_be_heard_soon_gets_all_threads_while_frames_wait) {
  const auto lm = make_cpu_ops({.threads = 2, .isa = {}});
  const auto codec = make_cpu_ops({.threads = 2, .isa = {}});
  const CancelToken none;
  Overlap overlap({}, *lm, *codec, /*share_threads=*/true, /*soon=*/true);
  EXPECT_LT(overlap.frame_done(1), 0.04);  // the codec has nothing to do
  overlap.begin_piece(none);               // returns at once, though nothing was measured
  std::atomic<bool> went_on = false;
  double paused = 0;
  std::thread frames([&] {
    paused = overlap.frame_done(1);
    went_on = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  EXPECT_FALSE(went_on);
  overlap.begin_piece(none);
  overlap.idle();
  frames.join();
  EXPECT_GT(paused, 0.05);
  overlap.begin_piece(none);
  CancelToken cancelled;
  cancelled.cancel();
  overlap.frame_done(1, &cancelled);  // does not wait for ever
}

TEST(Overlap, off_is_off_even_for_early_windows) {
  const auto lm = make_cpu_ops({.threads = 2, .isa = {}});
  const auto codec = make_cpu_ops({.threads = 2, .isa = {}});
  CancelToken cancelled;
  cancelled.cancel();
  Overlap overlap(0, *lm, *codec, /*share_threads=*/true, /*soon=*/true);
  EXPECT_THROW(overlap.begin_piece(cancelled), Error);  // waits, and is told to stop
}

TEST(Overlap, words) {
  EXPECT_EQ(parse_overlap("--overlap", "auto"), std::nullopt);
  EXPECT_EQ(parse_overlap("--overlap", "off"), 0);
  EXPECT_EQ(parse_overlap("--overlap", "12"), 12);
  for (const char* word : {"", "on", "-1", "0", "1x", "99999"})
    EXPECT_THROW(parse_overlap("--overlap", word), Error) << word;
}

std::string samples_with(const std::optional<int>& overlap, const std::filesystem::path& path,
                         WindowScheme windows = WindowScheme::kReference) {
  Request request;
  request.checkpoint.model_path = endless_checkpoint();
  request.song.lyrics = "la";
  request.song.tags = "piano";
  request.song.seed = 3;
  request.song.max_audio_length_ms = 32000;  // two windows
  request.codec.flow.steps = 1;
  request.codec.flow.guidance = 1;
  request.codec.windows = windows;
  request.machine.threads = 2;
  request.machine.overlap = overlap;
  request.output.save_path = path.string();
  const nlohmann::json sidecar = make_song_file(request, {}, nullptr);
  EXPECT_GT(sidecar["result"]["frames"], kWindowCodes);
  EXPECT_EQ(sidecar["result"]["overlap"]["codec_threads"].get<int>(),
            overlap.value_or(sidecar["result"]["overlap"]["codec_threads"]));
  const auto samples = static_cast<size_t>(sidecar["result"]["duration_s"].get<double>() * 48000);
  return contents(path).substr(44, samples * 4);  // 16 bits, stereo
}

TEST(Overlap, a_song_does_not_depend_on_it) {
  const TemporaryFolder folder;
  const std::string alone = samples_with(0, folder / "alone.wav");
  EXPECT_GT(alone.size(), 1000U);
  EXPECT_EQ(samples_with(1, folder / "beside.wav"), alone);
  EXPECT_EQ(samples_with(std::nullopt, folder / "auto.wav"), alone);
}

TEST(Overlap, a_song_with_early_windows_does_not_depend_on_it) {
  const TemporaryFolder folder;
  const std::string alone = samples_with(0, folder / "alone.wav", WindowScheme::kEarly);
  EXPECT_EQ(samples_with(1, folder / "beside.wav", WindowScheme::kEarly), alone);
  EXPECT_EQ(samples_with(std::nullopt, folder / "auto.wav", WindowScheme::kEarly), alone);
}

}  // namespace
}  // namespace heartmula
