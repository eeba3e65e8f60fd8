// The whole language model against plain float64, for sizes that are multiples of nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lm/testing.h"
#include "reference/language_model.h"

namespace heartmula {
namespace {

// layers, heads, key/value heads, width, MLP, context, eps, RoPE base, stretch
const LmSizes kSizes[] = {
    {{2, 6, 3, 108, 37, 64, 1e-5f, 500000, 32}, {1, 2, 1, 20, 51, 8, 1e-5f, 500000, 32}, 41, 29},
    {{1, 5, 5, 70, 130, 64, 1e-2f, 10000, 4}, {3, 3, 3, 18, 7, 8, 1e-3f, 200, 1}, 7, 33},
    {{3, 9, 1, 18, 5, 64, 1e-5f, 500000, 32}, {2, 4, 2, 56, 19, 8, 1e-5f, 500000, 8}, 13, 9},
    {{2, 1, 1, 38, 1, 64, 0.0f, 3e6, 32}, {1, 1, 1, 2, 1, 8, 1e-5f, 2.0, 32}, 2, 17},
};

class LmReference : public testing::TestWithParam<size_t> {};

TEST_P(LmReference, logits_of_every_codebook_equal_those_of_float64) {
  const LmConfig config = config_of(kSizes[GetParam()]);
  const int64_t vocabulary = config.audio_vocab_size;
  const RandomCheckpoint checkpoint(HeartMula::expected_tensors(config), 1 + static_cast<uint32_t>(GetParam()));
  const auto ops = make_cpu_ops({.threads = 2, .isa = {}});
  const HeartMula model = HeartMula::load(*ops, checkpoint.store(), config, DType::kF32);
  const std::vector<int32_t> prompt = some_prompt(19, config.text_vocab_size);
  const std::vector<Frame> frames = some_frames(5, vocabulary);

  for (const int64_t streams : {1, 2}) {
    LmSession session(*ops, model, streams, 24);
    session.prefill(prompt, 8, {frames.data(), 1});  // goes on after an earlier frame
    std::vector<oracle::LanguageModel> rows;
    for (int64_t stream = 0; stream < streams; ++stream) {
      rows.emplace_back(checkpoint, config);
      rows.back().prefill(prompt, 8, stream == 0);
      rows.back().feed(frames[0]);
    }
    for (size_t f = 1; f < frames.size(); ++f) {
      const auto logits = all_logits(session, frames[f]);
      for (int64_t stream = 0; stream < streams; ++stream) {
        const auto want = rows[static_cast<size_t>(stream)].logits(frames[f]);
        for (size_t q = 0; q < want.size(); ++q) {
          EXPECT_LT(relative_distance(of_stream(logits[q], stream, vocabulary), want[q]), 1e-5)
              << streams << " streams, stream " << stream << ", frame " << f << ", codebook " << q;
        }
        rows[static_cast<size_t>(stream)].feed(frames[f]);
      }
      session.feed(frames[f]);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, LmReference, testing::Range(size_t{0}, std::size(kSizes)));

std::vector<std::vector<float>> logits_of(const LmConfig& config, const RandomCheckpoint& checkpoint) {
  const auto ops = make_cpu_ops({.threads = 2, .isa = {}});
  const HeartMula model = HeartMula::load(*ops, checkpoint.store(), config, DType::kF32);
  LmSession session(*ops, model, 2, 24);
  session.prefill(some_prompt(19, config.text_vocab_size), 8, {});
  return all_logits(session, some_frame(3, config.audio_vocab_size));
}

// The same numbers, as the two layers of one checkpoint, and as the first and the last of three of another.
TEST(SkippedLayers, are_as_if_the_model_had_none_of_them) {
  LmConfig whole = config_of(kSizes[2]);
  whole.backbone.num_layers = 2;
  LmConfig skipping = config_of(kSizes[2]);
  ASSERT_EQ(skipping.backbone.num_layers, 3);
  skip_layers(skipping, 1);
  const RandomCheckpoint two(HeartMula::expected_tensors(whole), 7);
  const RandomCheckpoint three(HeartMula::expected_tensors(skipping), 7);
  EXPECT_TRUE(three.store().contains("backbone.layers.2.mlp.w1.weight"));
  EXPECT_FALSE(three.store().contains("backbone.layers.1.mlp.w1.weight"));
  EXPECT_EQ(logits_of(skipping, three), logits_of(whole, two));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { skip_layers(skipping, 2); }),
              testing::HasSubstr("--skip_layers 2: the backbone has 2 layers"));
}

/// The first size, with muq_linear.weight, which a checkpoint may lack.
std::vector<ExpectedTensor> with_muq_linear(const LmConfig& config) {
  std::vector<ExpectedTensor> expected = HeartMula::expected_tensors(config);
  expected.push_back({"muq_linear.weight", {config.backbone.embed_dim, config.muq_dim}});
  return expected;
}

std::vector<std::vector<float>> logits_with(Ops& ops, const HeartMula& model, const std::vector<float>& muq_embed) {
  LmSession session(ops, model, 2, 24);
  session.prefill(some_prompt(19, model.config.text_vocab_size), 8, {}, muq_embed);
  return all_logits(session, some_frame(3, model.config.audio_vocab_size));
}

TEST(MuqEmbed, a_style_vector_enters_the_conditional_row_as_in_float64) {
  const LmConfig config = config_of(kSizes[0]);
  const RandomCheckpoint checkpoint(with_muq_linear(config), 5);
  const auto ops = make_cpu_ops({.threads = 2, .isa = {}});
  const HeartMula model = HeartMula::load(*ops, checkpoint.store(), config, DType::kF32);
  const std::vector<float> muq_embed = {0.7F, -1.3F, 2.5F};
  const auto logits = logits_with(*ops, model, muq_embed);
  for (const int64_t stream : {0, 1}) {
    oracle::LanguageModel row(checkpoint, config);
    row.prefill(some_prompt(19, config.text_vocab_size), 8, stream == 0, muq_embed);
    const auto want = row.logits(some_frame(3, config.audio_vocab_size));
    for (size_t q = 0; q < want.size(); ++q) {
      EXPECT_LT(relative_distance(of_stream(logits[q], stream, config.audio_vocab_size), want[q]), 1e-5)
          << "stream " << stream << ", codebook " << q;
    }
  }
  const auto without = logits_with(*ops, model, {});
  EXPECT_NE(of_stream(logits[0], 0, config.audio_vocab_size), of_stream(without[0], 0, config.audio_vocab_size));
  EXPECT_EQ(of_stream(logits[0], 1, config.audio_vocab_size), of_stream(without[0], 1, config.audio_vocab_size));
}

TEST(MuqEmbed, zeros_are_what_none_is) {
  const LmConfig config = config_of(kSizes[0]);
  const RandomCheckpoint checkpoint(with_muq_linear(config), 5);
  const auto ops = make_cpu_ops({.threads = 1, .isa = {}});
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const HeartMula model = HeartMula::load(*ops, checkpoint.store(), config, dtype);
    EXPECT_EQ(logits_with(*ops, model, {0, 0, 0}), logits_with(*ops, model, {})) << dtype_name(dtype);
  }
}

TEST(MuqEmbed, training_with_zeros_may_have_left_zeros) {
  const LmConfig config = config_of(kSizes[0]);
  std::vector<StoredTensor> tensors;
  const RandomCheckpoint checkpoint(with_muq_linear(config), 5);
  const std::vector<std::byte> zeros(static_cast<size_t>(config.backbone.embed_dim * config.muq_dim) * sizeof(float));
  for (StoredTensor tensor : checkpoint.store().files().front().tensors()) {
    if (tensor.name == "muq_linear.weight") tensor.data = zeros;
    tensors.push_back(tensor);
  }
  HeartMula::require(WeightStore::of(SafetensorsFile::in_memory(nullptr, tensors, "memory")), config);
}

TEST(MuqEmbed, one_that_does_not_fit_is_refused) {
  const LmConfig config = config_of(kSizes[0]);
  const auto ops = make_cpu_ops({.threads = 1, .isa = {}});
  const auto complaint = [&](const std::vector<ExpectedTensor>& tensors, const std::vector<float>& muq_embed) {
    const RandomCheckpoint checkpoint(tensors, 5);
    const HeartMula model = HeartMula::load(*ops, checkpoint.store(), config, DType::kF32);
    return error_of(ErrorKind::kUser, [&] { logits_with(*ops, model, muq_embed); });
  };
  EXPECT_THAT(complaint(with_muq_linear(config), {1, 2}), testing::HasSubstr("2 numbers, but the model takes 3"));
  EXPECT_THAT(complaint(HeartMula::expected_tensors(config), {1, 2, 3}), testing::HasSubstr("muq_linear.weight"));
}

}  // namespace
}  // namespace heartmula
