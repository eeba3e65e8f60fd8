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

struct Made {
  size_t piece = 1000;  // frames that come at a time
  int threads = 2;
  DType dtype = DType::kF32;
  CodecSettings settings = {.flow = {.steps = 1}};
};

Audio decode(const std::vector<Frame>& frames, const Made& made) {
  Models models({.checkpoint = {.model_path = std::string(HEARTMULA_TEST_DATA) + "/tiny1", .codec_dtype = made.dtype},
                 .machine = {.threads = made.threads}},
                CheckpointParts::kCodec, nullptr);
  const PhiloxCodecNoise noise(5);
  Audio audio;
  SongDecoder decoder(
      models.codec_ops(), models.codec(), made.settings, noise,
      [&](std::span<const float> left, std::span<const float> right) {
        audio.left.insert(audio.left.end(), left.begin(), left.end());
        audio.right.insert(audio.right.end(), right.begin(), right.end());
      },
      static_cast<int64_t>(frames.size()));
  for (size_t first = 0; first < frames.size(); first += made.piece) {
    decoder.push(std::span(frames).subspan(first, std::min(made.piece, frames.size() - first)));
  }
  audio.before_finish = static_cast<int64_t>(audio.left.size());
  decoder.finish();
  audio.dropped = decoder.dropped_codes();
  return audio;
}

TEST(SongDecoder, samples_do_not_depend_on_how_frames_come) {
  const std::vector<Frame> frames = some_frames(380);  // two windows
  const Audio whole = decode(frames, {});
  EXPECT_EQ(static_cast<int64_t>(whole.left.size()), 380 * 2 * kLatentSamples);
  EXPECT_EQ(whole.before_finish, (kWindowLatents - 2) * kLatentSamples);  // handed on as soon as they are final
  EXPECT_EQ(decode(frames, {.piece = 1}), whole);
  EXPECT_EQ(decode(frames, {.piece = 111}), whole);
}

TEST(SongDecoder, early_windows_hand_on_samples_early_and_always_the_same) {
  const Made made{.settings = {.flow = {.steps = 1}, .windows = WindowScheme::kEarly, .short_last_window = true}};
  for (const size_t length : {5, 93, 94, 200}) {
    const std::vector<Frame> frames = some_frames(length);
    const Audio whole = decode(frames, made);
    EXPECT_EQ(whole.left.size(), length * 2 * kLatentSamples);
    if (length == 200) {
      EXPECT_EQ(whole.before_finish, (2 * 173 - 2) * kLatentSamples);
    }
    for (const size_t piece : {1, 50}) {
      Made in_pieces = made;
      in_pieces.piece = piece;
      EXPECT_EQ(decode(frames, in_pieces), whole) << length << " frames, " << piece << " at a time";
    }
  }
}

// Without a context there is nothing that the window's length could change but its attention; the noise is the same.
TEST(SongDecoder, a_short_last_window_is_as_long_as_the_song) {
  const std::vector<Frame> frames = some_frames(20);
  const Made whole{.settings = {.flow = {.steps = 1}}};
  Made made = whole;
  made.settings.short_last_window = true;
  const Audio audio = decode(frames, made);
  EXPECT_EQ(audio.left.size(), 20u * 2 * kLatentSamples);
  EXPECT_NE(audio, decode(frames, whole));
}

// One window alone is the same in every order; two sweeps continue what one after the other continues but for what the
// first sweep's context lacks.
TEST(SongDecoder, windows_at_once_have_all_samples) {
  const auto settings = [](WindowOrder order) { return Made{.settings = {.flow = {.steps = 1}, .order = order}}; };
  const std::vector<Frame> one = some_frames(100);
  for (const WindowOrder order : {WindowOrder::kParallel, WindowOrder::kBlended}) {
    EXPECT_EQ(decode(one, settings(order)), decode(one, settings(WindowOrder::kSequential)));
  }
  const std::vector<Frame> two = some_frames(400);
  const Audio sequential = decode(two, settings(WindowOrder::kSequential));
  const Audio parallel = decode(two, settings(WindowOrder::kParallel));
  EXPECT_EQ(parallel, sequential) << "the second window's context is what the first alone makes";
  EXPECT_EQ(parallel.before_finish, 0);
  const Audio blended = decode(two, settings(WindowOrder::kBlended));
  EXPECT_EQ(blended.left.size(), sequential.left.size());
  EXPECT_NE(blended, sequential);
  const auto before = static_cast<size_t>((2 * kWindowHop - 2) * kLatentSamples);
  EXPECT_TRUE(std::equal(blended.left.begin(), blended.left.begin() + static_cast<std::ptrdiff_t>(before),
                         sequential.left.begin()));
}

TEST(SongDecoder, compat_joins_windows_and_loses_what_the_reference_loses) {
  const Made made{.settings = {.flow = {.steps = 1}, .compat = true}};
  const Audio audio = decode(some_frames(424), made);
  EXPECT_EQ(static_cast<int64_t>(audio.left.size()), kWindowSamples);
  EXPECT_EQ(audio.before_finish, kWindowSamples - kFadeSamples);
}

TEST(SongDecoder, samples_do_not_depend_on_threads) {
  const std::vector<Frame> frames = some_frames(20);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Audio alone = decode(frames, {.threads = 1, .dtype = dtype});
    for (const int threads : {2, 3, 7}) {
      EXPECT_EQ(decode(frames, {.threads = threads, .dtype = dtype}), alone) << threads;
    }
  }
}

TEST(SongDecoder, codes_without_an_entry_are_counted_and_contribute_nothing) {
  std::vector<Frame> frames = some_frames(8);
  frames[2][3] = 64;
  frames[5][0] = 1000;
  const Audio audio = decode(frames, {});
  EXPECT_EQ(audio.dropped, 2);
  frames[2][3] = -1;
  frames[5][0] = -1;
  EXPECT_EQ(decode(frames, {}), audio);
}

TEST(SongDecoder, no_frames_are_an_error) {
  EXPECT_THROW(decode({}, {}), Error);
}

}  // namespace
}  // namespace heartmula
