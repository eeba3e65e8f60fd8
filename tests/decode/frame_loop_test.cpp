#include "decode/frame_loop.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "base/testing.h"
#include "checkpoint/models.h"

namespace heartmula {
namespace {

struct Stopped {};

/// The smallest golden checkpoint.
class FrameLoop : public testing::Test {
 protected:
  static std::vector<Frame> run(int threads, DType dtype, float guidance, std::span<const Frame> begin = {},
                                int64_t stop_after = -1, int64_t piece = LmBatchSize().piece) {
    FrameLoopSettings settings{.sampling = {.guidance = guidance}, .max_audio_length_ms = 11 * kFrameMs};
    settings.audio_eos_id = 1 << 20;  // no code ends this song
    return run_with(settings, threads, dtype, begin, stop_after, piece);
  }

  static std::vector<Frame> run_with(const FrameLoopSettings& settings, int threads = 2, DType dtype = DType::kF32,
                                     std::span<const Frame> begin = {}, int64_t stop_after = -1,
                                     int64_t piece = LmBatchSize().piece) {
    Models models({.checkpoint = {.model_path = std::string(HEARTMULA_TEST_DATA) + "/tiny1", .mula_dtype = dtype},
                   .machine = {.threads = threads}},
                  CheckpointParts::kAll, nullptr);
    const Prompt prompt = make_prompt(models.tokenizer(), models.gen_config(), "piano,happy", "[verse]\nla la la");
    const PhiloxNoise noise(7);
    LmBatch batch(models.lm_ops(), models.lm(),
                  {.streams = settings.sampling.streams(),
                   .positions = required_context(models.lm_config(), prompt, settings),
                   .piece = piece});
    std::vector<Frame> frames(begin.begin(), begin.end());
    try {
      generate_frames(batch, prompt, begin, settings, noise, [&](int64_t, const Frame& frame) {
        frames.push_back(frame);
        if (static_cast<int64_t>(frames.size()) == stop_after) throw Stopped();
      });
    } catch (const Stopped&) {
    }
    return frames;
  }
};

TEST_F(FrameLoop, a_song_is_as_long_as_asked_for_and_one_frame) {
  EXPECT_EQ(run(1, DType::kF32, 1.5F).size(), 12U);
}

/// A code from here on ends a song: low enough of 69 that one comes soon.
constexpr int32_t kEndCode = 55;
bool ends(const Frame& frame) {
  return std::any_of(frame.begin(), frame.end(), [](int32_t code) { return code >= kEndCode; });
}

TEST_F(FrameLoop, a_song_does_not_end_before_its_shortest_length) {
  FrameLoopSettings settings{.sampling = {}, .max_audio_length_ms = 40 * kFrameMs, .audio_eos_id = kEndCode};
  const std::vector<Frame> plain = run_with(settings);
  ASSERT_LT(plain.size(), 16U) << "this song ends by itself";
  for (const int64_t min_frames : {5, 20}) {
    settings.min_audio_length_ms = min_frames * kFrameMs - 1;  // rounded up to a frame
    const std::vector<Frame> longer = run_with(settings);
    ASSERT_GE(static_cast<int64_t>(longer.size()), min_frames);
    for (size_t i = 1; i < longer.size(); ++i) EXPECT_FALSE(ends(longer[i])) << i;
    EXPECT_EQ(longer[0], plain[0]) << "the first frame does not end a song anyway";
    // After that it is plain decoding.
    FrameLoopSettings free = settings;
    free.min_audio_length_ms = 0;
    EXPECT_EQ(run_with(free, 2, DType::kF32, std::span(longer).first(static_cast<size_t>(min_frames))), longer);
  }
  settings.min_audio_length_ms = 80;  // no more than the first frame
  EXPECT_EQ(run_with(settings), plain);
}

TEST_F(FrameLoop, a_song_that_never_ends_by_itself) {
  FrameLoopSettings settings{
      .sampling = {}, .max_audio_length_ms = 40 * kFrameMs, .audio_eos_id = kEndCode, .ignore_eos = true};
  const std::vector<Frame> frames = run_with(settings);
  EXPECT_EQ(frames.size(), 41U);
  EXPECT_TRUE(std::none_of(frames.begin() + 1, frames.end(), ends));
  EXPECT_EQ(run_with(settings, 1, DType::kF32, std::span(frames).first(17)), frames) << "continued";
  settings.audio_eos_id = 0;
  EXPECT_NE(error_of(ErrorKind::kUser, [&] { run_with(settings); }).find("audio_eos_id is 0"), std::string::npos);
}

TEST_F(FrameLoop, codes_that_end_nothing_are_sampled_as_ever) {
  FrameLoopSettings settings{.sampling = {}, .max_audio_length_ms = 11 * kFrameMs, .audio_eos_id = 1 << 20};
  const std::vector<Frame> plain = run_with(settings);
  settings.ignore_eos = true;
  EXPECT_EQ(run_with(settings), plain);
}

TEST_F(FrameLoop, codes_do_not_depend_on_threads) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const std::vector<Frame> alone = run(1, dtype, 1.5F);
    for (const int threads : {2, 3, 7}) EXPECT_EQ(run(threads, dtype, 1.5F), alone) << threads << " threads";
  }
}

TEST_F(FrameLoop, codes_do_not_depend_on_the_pieces_of_the_prefill) {
  for (const float guidance : {1.0F, 1.5F}) {
    const std::vector<Frame> whole = run(2, DType::kBF16, guidance);
    for (const int64_t piece : {1, 2, 3, 7, 16}) {
      EXPECT_EQ(run(2, DType::kBF16, guidance, {}, -1, piece), whole) << "pieces of " << piece;
    }
  }
}

TEST_F(FrameLoop, a_song_stopped_anywhere_and_continued_is_the_same_song) {
  const std::vector<Frame> whole = run(2, DType::kBF16, 1.5F);
  for (int64_t frames = 1; frames < static_cast<int64_t>(whole.size()); ++frames) {
    const std::vector<Frame> begun = run(2, DType::kBF16, 1.5F, {}, frames);
    ASSERT_EQ(static_cast<int64_t>(begun.size()), frames);
    EXPECT_EQ(run(1, DType::kBF16, 1.5F, begun), whole) << "stopped after " << frames;
  }
}

TEST_F(FrameLoop, a_context_that_is_too_short_is_refused_with_a_length_that_fits) {
  LmConfig config;
  config.backbone.max_seq_len = 200;
  config.text_vocab_size = 1;
  Prompt prompt;
  prompt.text_ids.resize(50);
  FrameLoopSettings settings;
  try {
    required_context(config, prompt, settings);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUser);
    EXPECT_NE(std::string(error.what()).find("--max_audio_length_ms 12000"), std::string::npos) << error.what();
  }
  settings.max_audio_length_ms = 12000;
  EXPECT_EQ(required_context(config, prompt, settings), 200);
}

TEST_F(FrameLoop, tokens_and_codes_that_the_model_does_not_know_are_refused) {
  LmConfig config;
  config.source = "config.json";
  config.backbone.max_seq_len = 8192;
  config.text_vocab_size = 544;
  config.audio_vocab_size = 69;
  Prompt prompt;
  for (const int32_t id : {-1, 544}) {
    prompt.text_ids = {0, 543, id};
    const std::string message = error_of(ErrorKind::kUser, [&] { required_context(config, prompt, {}); });
    EXPECT_NE(message.find("config.json: text_vocab_size is 544, but tags and lyrics make token " + std::to_string(id)),
              std::string::npos)
        << message;
  }
  std::vector<Frame> frames(3);
  frames[1][7] = 68;
  check_codes(config, frames, "x");
  for (const int32_t code : {-1, 69}) {
    frames[2][4] = code;
    EXPECT_EQ(error_of(ErrorKind::kUser, [&] { check_codes(config, frames, "song.codes"); }),
              "song.codes: frame 2 holds code " + std::to_string(code) + ", but the model knows 0 to 68");
  }
}

}  // namespace
}  // namespace heartmula
