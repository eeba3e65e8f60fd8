#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/models.h"
#include "codec/heartcodec.h"

namespace heartmula {
namespace {

struct Audio {
  std::vector<float> left;
  std::vector<float> right;
  int64_t before_finish = 0;  // samples handed on before the end of the song was known
  int64_t dropped = 0;
  bool operator==(const Audio& other) const { return left == other.left && right == other.right; }
};

std::vector<Frame> some_frames(size_t count) {
  std::vector<Frame> frames(count);
  for (size_t t = 0; t < count; ++t) {
    for (size_t q = 0; q < frames[t].size(); ++q) frames[t][q] = static_cast<int32_t>((t * 31 + q * 17 + t * t) % 64);
  }
  return frames;
}

/// `piece` frames at a time.
Audio decode(const std::vector<Frame>& frames, int threads, size_t piece, DType dtype = DType::kF32) {
  Models models({.checkpoint = {.model_path = std::string(HEARTMULA_TEST_DATA) + "/tiny1", .codec_dtype = dtype},
                 .machine = {.threads = threads}},
                CheckpointParts::kCodec, nullptr);
  const PhiloxCodecNoise noise(5);
  Audio audio;
  SongDecoder decoder(models.codec_ops(), models.codec(), {.flow = {.steps = 1, .guidance = 1.25F}}, noise,
                      [&](std::span<const float> left, std::span<const float> right) {
                        audio.left.insert(audio.left.end(), left.begin(), left.end());
                        audio.right.insert(audio.right.end(), right.begin(), right.end());
                      });
  for (size_t first = 0; first < frames.size(); first += piece) {
    decoder.push(std::span(frames).subspan(first, std::min(piece, frames.size() - first)));
  }
  audio.before_finish = static_cast<int64_t>(audio.left.size());
  decoder.finish();
  audio.dropped = decoder.dropped_codes();
  return audio;
}

TEST(SongDecoder, samples_do_not_depend_on_how_frames_come) {
  const std::vector<Frame> frames = some_frames(380);  // two windows
  const Audio whole = decode(frames, 2, frames.size());
  EXPECT_EQ(static_cast<int64_t>(whole.left.size()), plan_windows(380, false).samples);
  EXPECT_EQ(whole.before_finish, kWindowSamples - kFadeSamples);  // handed on early
  EXPECT_EQ(decode(frames, 2, 1), whole);
  EXPECT_EQ(decode(frames, 2, 111), whole);
}

TEST(SongDecoder, samples_do_not_depend_on_threads) {
  const std::vector<Frame> frames = some_frames(20);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Audio alone = decode(frames, 1, 20, dtype);
    for (const int threads : {2, 3, 7}) EXPECT_EQ(decode(frames, threads, 20, dtype), alone) << threads;
  }
}

TEST(SongDecoder, codes_without_an_entry_are_counted_and_contribute_nothing) {
  std::vector<Frame> frames = some_frames(8);
  frames[2][3] = 64;
  frames[5][0] = 1000;
  const Audio audio = decode(frames, 2, 8);
  EXPECT_EQ(audio.dropped, 2);
  frames[2][3] = -1;
  frames[5][0] = -1;
  EXPECT_EQ(decode(frames, 2, 8), audio);
}

TEST(SongDecoder, no_frames_are_an_error) {
  EXPECT_THROW(decode({}, 1, 1), Error);
}

}  // namespace
}  // namespace heartmula
