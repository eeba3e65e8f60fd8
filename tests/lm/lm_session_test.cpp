// A row's bits depend neither on its company nor on threads, nor on the way by which its keys and values came.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "lm/testing.h"

namespace heartmula {
namespace {

using Logits = std::vector<std::vector<float>>;  // of every frame and codebook

constexpr int64_t kPrompt = 23;
constexpr int64_t kReferenceIndex = 9;
constexpr int64_t kFrames = 4;

const LmConfig& config() {
  static const LmConfig config =
      config_of({{2, 6, 2, 108, 200, 64, 1e-5f, 500000, 32}, {2, 4, 2, 40, 77, 8, 1e-5f, 500000, 32}, 37, 51});
  return config;
}

const RandomCheckpoint& checkpoint() {
  static const RandomCheckpoint checkpoint(HeartMula::expected_tensors(config()), 5);
  return checkpoint;
}

struct Settings {
  DType dtype = DType::kF32;
  int64_t streams = 1;
  int threads = 1;
  int64_t piece = LmBatchSize().piece;
  int64_t prefilled = 0;  // of the frames; the rest is fed
  int64_t capacity = kPrompt + kFrames;
};

/// The logits of stream 0 in every frame from the `first` on.
Logits logits_of(Ops& ops, const HeartMula& model, const Settings& s, int64_t first = 0) {
  const std::vector<Frame> frames = some_frames(kFrames, config().audio_vocab_size);
  LmSession session(ops, model, s.streams, s.capacity, s.piece);
  session.prefill(some_prompt(kPrompt, config().text_vocab_size), kReferenceIndex,
                  std::span(frames).first(static_cast<size_t>(s.prefilled)));
  Logits result;
  for (int64_t f = s.prefilled; f < kFrames; ++f) {
    const Frame& frame = frames[static_cast<size_t>(f)];
    if (f >= first) {
      for (const auto& of_codebook : all_logits(session, frame)) {
        result.push_back(of_stream(of_codebook, 0, config().audio_vocab_size));
      }
    }
    session.feed(frame);
  }
  return result;
}

Logits logits_of(const Settings& settings, int64_t first = 0) {
  const auto ops = make_cpu_ops({.threads = settings.threads, .isa = {}});
  return logits_of(*ops, HeartMula::load(*ops, checkpoint().store(), config(), settings.dtype), settings, first);
}

bool same_bits(const Logits& a, const Logits& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](const auto& x, const auto& y) {
           return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
         });
}

class LmSessionBits : public testing::TestWithParam<DType> {};

TEST_P(LmSessionBits, a_row_is_the_same_alone_and_beside_the_row_of_guidance) {
  EXPECT_TRUE(same_bits(logits_of({.dtype = GetParam()}), logits_of({.dtype = GetParam(), .streams = 2})));
}

TEST_P(LmSessionBits, a_row_does_not_depend_on_the_pieces_of_the_prefill) {
  for (const int64_t streams : {1, 2}) {
    for (const int64_t prefilled : {int64_t{0}, kFrames - 1}) {
      const Settings whole{.dtype = GetParam(), .streams = streams, .prefilled = prefilled};
      const Logits expected = logits_of(whole);
      for (const int64_t piece : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{7}, kPrompt - 1, kPrompt}) {
        Settings cut = whole;
        cut.piece = piece;
        EXPECT_TRUE(same_bits(logits_of(cut), expected)) << "pieces of " << piece;
      }
    }
  }
}

TEST_P(LmSessionBits, frames_that_were_prefilled_leave_what_fed_ones_leave) {
  for (const int64_t streams : {1, 2}) {
    for (int64_t prefilled = 1; prefilled < kFrames; ++prefilled) {
      Settings settings{.dtype = GetParam(), .streams = streams};
      const Logits fed = logits_of(settings, prefilled);
      settings.prefilled = prefilled;
      EXPECT_TRUE(same_bits(logits_of(settings), fed)) << prefilled << " frames";
    }
  }
}

TEST_P(LmSessionBits, a_row_does_not_depend_on_the_room_in_the_cache) {
  EXPECT_TRUE(same_bits(logits_of({.dtype = GetParam()}), logits_of({.dtype = GetParam(), .capacity = 64})));
}

TEST_P(LmSessionBits, logits_do_not_depend_on_threads_of_which_several_take_part) {
  Settings settings{.dtype = GetParam(), .streams = 2, .piece = 5};
  const Logits alone = logits_of(settings);
  for (const int threads : {2, 3, 7}) {
    settings.threads = threads;
    const auto ops = make_cpu_ops({.threads = threads, .isa = {}});
    const HeartMula model = HeartMula::load(*ops, checkpoint().store(), config(), settings.dtype);
    const std::vector<int64_t> loaded = ops->chunks_by_thread();
    // On a busy machine a short song may be over before a second thread has woken up.
    int64_t others = 0;
    for (int round = 0; round < 200 && (round == 0 || others == 0); ++round) {
      ASSERT_TRUE(same_bits(logits_of(*ops, model, settings), alone)) << threads << " threads";
      const std::vector<int64_t> chunks = ops->chunks_by_thread();
      others = 0;
      for (size_t thread = 1; thread < chunks.size(); ++thread) others += chunks[thread] - loaded[thread];
    }
    EXPECT_GT(others, 0) << "nobody but the caller has computed anything with " << threads << " threads";
  }
}

INSTANTIATE_TEST_SUITE_P(Weights, LmSessionBits, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& weights) { return weights.param == DType::kF32 ? "f32" : "bf16"; });

// The row of guidance is prefilled with one position that stands for all (lm.md B6). Where every embedding of the
// prompt is the unconditional one, the conditional row is what a plain prefill of that row would give.
TEST(LmSession, one_unconditional_position_stands_for_a_whole_prompt) {
  for (const auto& [dtype, tolerance] : {std::pair(DType::kF32, 1e-5), std::pair(DType::kBF16, 1e-2)}) {
    const auto ops = make_cpu_ops({.threads = 2, .isa = {}});
    HeartMula model = HeartMula::load(*ops, checkpoint().store(), config(), dtype);
    model.text_embeddings = model.unconditional_embedding;  // of which only entry 0 is asked for
    const oracle::Array row = checkpoint().row("unconditional_text_embedding.weight");
    std::vector<float> reference(row.values.begin(), row.values.end());
    if (dtype == DType::kBF16) {
      for (float& value : reference) value = bf16_to_f32(f32_to_bf16(value));
    }
    ops->upload(model.muq_bias, reference);
    LmSession session(*ops, model, 2, kPrompt + kFrames, 5);
    session.prefill(std::vector<int32_t>(kPrompt, 0), kReferenceIndex, {});
    for (const Frame& frame : some_frames(kFrames, config().audio_vocab_size)) {
      const auto logits = all_logits(session, frame);
      for (size_t q = 0; q < logits.size(); ++q) {
        const std::vector<float> plain = of_stream(logits[q], 0, config().audio_vocab_size);
        EXPECT_LT(relative_distance(of_stream(logits[q], 1, config().audio_vocab_size), {plain.begin(), plain.end()}),
                  tolerance);
      }
      session.feed(frame);
    }
  }
}

}  // namespace
}  // namespace heartmula
