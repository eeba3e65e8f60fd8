// The way of a song, beside and one model at a time: what reaches the caller, and what happens when he fails or stops.
#include "song/generator.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "cpu/cpu_ops.h"
#include "song/testing.h"

namespace heartmula {
namespace {

constexpr int64_t kFrames = 9;

template <typename Condition>
void wait_for(const Condition& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) throw std::logic_error("this never happens");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

/// The parameter: one model at a time.
class Generator : public testing::TestWithParam<bool> {
 protected:
  Generator() : request_(short_request(kFrames)) { request_.machine.lazy_load = GetParam(); }

  /// Makes a song that ends in this exception, then the whole one with the same models.
  template <typename Exception>
  MadeSong fails(const SongHooks& hooks, const CancelToken* cancel = nullptr) {
    const auto models = models_for(request_);
    MadeSong song;
    EXPECT_THROW(make_song(song, *models, request_, {}, hooks, cancel), Exception);
    MadeSong again;
    make_song(again, *models, request_);
    EXPECT_EQ(again, whole_song(request_)) << "the models are spoilt";
    return song;
  }
  /// Expects that the song ends as cancelled.
  MadeSong is_cancelled(const SongHooks& hooks, const CancelToken& token) {
    const auto models = models_for(request_);
    MadeSong song;
    error_of(ErrorKind::kCancelled, [&] { make_song(song, *models, request_, {}, hooks, &token); });
    MadeSong again;
    make_song(again, *models, request_);
    EXPECT_EQ(again, whole_song(request_)) << "the models are spoilt";
    return song;
  }

  Request request_;
};

struct Stop : std::runtime_error {
  Stop() : std::runtime_error("stop") {}
};

TEST_P(Generator, a_song_has_its_frames_and_their_samples) {
  const MadeSong song = whole_song(request_);
  EXPECT_EQ(static_cast<int64_t>(song.frames.size()), kFrames);
  EXPECT_EQ(static_cast<int64_t>(song.left.size()), kFrames * 2 * kLatentSamples);
  EXPECT_EQ(song.left.size(), song.right.size());
  EXPECT_EQ(song.outcome.frames, kFrames);
  EXPECT_EQ(song.outcome.new_frames, kFrames);
  EXPECT_EQ(song.outcome.stop_reason, StopReason::kLength);
  EXPECT_GT(song.outcome.frames_seconds, 0);
  EXPECT_GT(song.outcome.codec_seconds, 0);
}

TEST_P(Generator, an_error_of_the_frame_sink_comes_out) {
  const MadeSong song = fails<Stop>({.frame = [](int64_t index, const Frame&) {
    if (index == 4) throw Stop();
  }});
  EXPECT_EQ(song.frames.size(), 5u);
  EXPECT_TRUE(song.left.empty());
}

TEST_P(Generator, an_error_of_the_audio_sink_comes_out_and_the_frames_are_there) {
  const MadeSong song = fails<Stop>({.audio = [](std::span<const float>, std::span<const float>) { throw Stop(); }});
  EXPECT_EQ(static_cast<int64_t>(song.frames.size()), kFrames);
}

TEST_P(Generator, an_error_of_the_progress_sink_comes_out_of_every_stage) {
  for (const std::string_view stage : {"load", "frames", "codec"}) {
    const MadeSong song = fails<Stop>({.progress = [&](std::string_view name, int64_t, int64_t, double) {
      if (name == stage) throw Stop();
    }});
    EXPECT_EQ(static_cast<int64_t>(song.frames.size()), stage == "load" ? 0 : stage == "frames" ? 1 : kFrames) << stage;
  }
}

TEST_P(Generator, a_song_cancelled_before_it_begins_makes_nothing) {
  CancelToken token;
  token.cancel();
  const MadeSong song = is_cancelled({}, token);
  EXPECT_TRUE(song.frames.empty());
  EXPECT_TRUE(song.left.empty());
}

TEST_P(Generator, a_song_cancelled_at_a_frame_hands_on_no_other) {
  CancelToken token;
  const MadeSong song = is_cancelled({.frame =
                                          [&](int64_t index, const Frame&) {
                                            if (index == 3) token.cancel();
                                          }},
                                     token);
  EXPECT_EQ(song.frames.size(), 4u);
  EXPECT_TRUE(song.left.empty());
}

TEST_P(Generator, a_song_cancelled_in_the_codec_hands_on_no_samples) {
  request_.codec.flow.steps = 3;
  for (const int64_t step : {1, 2, 3}) {
    CancelToken token;
    const MadeSong song = is_cancelled({.progress =
                                            [&](std::string_view stage, int64_t done, int64_t, double) {
                                              if (stage == "codec" && done == step) token.cancel();
                                            }},
                                       token);
    EXPECT_EQ(static_cast<int64_t>(song.frames.size()), kFrames);
    EXPECT_TRUE(song.left.empty()) << step;
  }
}

TEST_P(Generator, a_song_that_goes_on_after_any_frame_is_the_same_song) {
  const MadeSong whole = whole_song(request_);
  const auto models = models_for(request_);
  for (size_t kept = 0; kept <= whole.frames.size(); ++kept) {
    MadeSong song;
    make_song(song, *models, request_, std::span(whole.frames).first(kept));
    EXPECT_EQ(song, whole) << kept << " frames kept";
    EXPECT_EQ(song.outcome.frames, kFrames);
    EXPECT_EQ(song.outcome.new_frames, kFrames - static_cast<int64_t>(kept));
  }
}

TEST_P(Generator, a_song_does_not_depend_on_threads_of_which_several_take_part) {
  request_.codec.flow.steps = 2;
  request_.codec.flow.guidance = 1.25;
  request_.machine.threads = 1;
  const MadeSong alone = whole_song(request_);
  const auto others_of = [](const Ops& ops) {
    const std::vector<int64_t> chunks = ops.chunks_by_thread();
    return std::accumulate(chunks.begin() + 1, chunks.end(), int64_t{0});
  };
  for (const int threads : {2, 3}) {
    request_.machine.threads = threads;
    const auto models = models_for(request_);
    models->lm();
    models->codec();
    const int64_t lm_before = others_of(models->lm_ops());
    const int64_t codec_before = others_of(models->codec_ops());
    bool took_part = false;
    for (int round = 0; round < 50 && !took_part; ++round) {
      MadeSong song;
      make_song(song, *models, request_);
      ASSERT_EQ(song, alone) << threads << " threads";
      took_part = others_of(models->lm_ops()) > lm_before && others_of(models->codec_ops()) > codec_before;
    }
    EXPECT_TRUE(took_part) << "one thread has made the whole song";
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, Generator, testing::Bool(),
                         [](const auto& mode) { return mode.param ? "one_model_at_a_time" : "beside"; });

TEST(GeneratorModes, make_the_same_song) {
  Request request = short_request(kFrames);
  const MadeSong beside = whole_song(request);
  request.machine.lazy_load = true;
  EXPECT_EQ(whole_song(request), beside);
}

TEST(GeneratorModes, decoding_the_frames_gives_the_same_samples) {
  const Request request = short_request(kFrames);
  const MadeSong song = whole_song(request);
  MadeSong decoded;
  const SongHooks hooks = {.audio = [&](std::span<const float> left, std::span<const float> right) {
    decoded.left.insert(decoded.left.end(), left.begin(), left.end());
    decoded.right.insert(decoded.right.end(), right.begin(), right.end());
  }};
  decode_song(*models_for(request), request, song.frames, hooks);
  EXPECT_EQ(decoded.left, song.left);
  EXPECT_EQ(decoded.right, song.right);
}

TEST(GeneratorBeside, a_finished_window_is_heard_while_frames_are_still_made) {
  Request request = short_request(kWindowCodes + 8);
  request.machine.overlap = 1;
  std::atomic<bool> heard{false};
  MadeSong song;
  make_song(song, *models_for(request), request, {},
            {.frame =
                 [&](int64_t index, const Frame&) {
                   if (index == kWindowCodes + 4) wait_for([&] { return heard.load(); });
                 },
             .audio = [&](std::span<const float>, std::span<const float>) { heard = true; }});
  EXPECT_EQ(static_cast<int64_t>(song.left.size()), (kWindowCodes + 8) * 2 * kLatentSamples);
}

TEST(GeneratorBeside, an_error_of_the_audio_sink_ends_the_frames_soon) {
  Request request = short_request(1000);
  request.machine.overlap = 1;
  std::atomic<bool> thrown{false};
  MadeSong song;
  EXPECT_THROW(make_song(song, *models_for(request), request, {},
                         {.frame =
                              [&](int64_t index, const Frame&) {
                                if (index == kWindowCodes) wait_for([&] { return thrown.load(); });
                                if (index > kWindowCodes) std::this_thread::sleep_for(std::chrono::milliseconds(1));
                              },
                          .audio =
                              [&](std::span<const float>, std::span<const float>) {
                                thrown = true;
                                throw Stop();
                              }}),
               Stop);
  EXPECT_GT(static_cast<int64_t>(song.frames.size()), kWindowCodes);
  EXPECT_LT(song.frames.size(), 1000u);
}

}  // namespace
}  // namespace heartmula
