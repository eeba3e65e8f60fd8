// What the benchmark counts must be what has to be done; how long it takes is not a test's business.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/testing.h"
#include "bench/report.h"
#include "bench/stages.h"
#include "cpu/cpu_ops.h"
#include "heartmula/error.h"

namespace heartmula {
namespace {

using bench::Stage;
using testing::HasSubstr;

struct Measured {
  bench::WorkMeter meter;
  std::unique_ptr<Ops> ops = make_metered_ops(make_cpu_ops({.threads = 1, .isa = {}}), meter);
  bench::ModelSource source{{.synthetic = kTinyCheckpoint}};
};

// Multiply-adds of one row through every matrix of a transformer.
double matrix_elements(const TransformerConfig& c) {
  const auto width = static_cast<double>(c.embed_dim);
  const double attention = width * static_cast<double>(2 * c.query_dim() + 2 * c.kv_dim());
  return static_cast<double>(c.num_layers) * (attention + 3.0 * width * static_cast<double>(c.intermediate_dim));
}

double kv_elements(const TransformerConfig& c) {
  return 2.0 * static_cast<double>(c.num_layers * c.kv_dim());
}

TEST(Bench, a_frame_reads_every_weight_that_it_needs_once_a_pass_and_each_row_s_cache) {
  Measured m;
  const HeartMula model = m.source.load_lm(*m.ops, DType::kBF16);
  const LmConfig& c = model.config;
  const auto width = static_cast<double>(c.backbone.embed_dim);
  const auto depth_width = static_cast<double>(c.decoder.embed_dim);
  const auto vocabulary = static_cast<double>(c.audio_vocab_size);
  constexpr int64_t kContext = 40;
  constexpr int64_t kSongs = 3;
  const Stage stage = bench::measure_frame(*m.ops, m.meter, model, kSongs, kContext, 1);

  const double depth_pass = matrix_elements(c.decoder) + depth_width * width;
  const double weights = matrix_elements(c.backbone) + vocabulary * width + 7 * (depth_pass + vocabulary * depth_width);
  constexpr double kRows = 2 * kSongs;
  // The frame before stood at kContext + 1 and this one is fed at kContext + 2, which it sees and writes.
  const double backbone_cache = kRows * kv_elements(c.backbone) * (kContext + 3 + 1);
  const double depth_cache = kRows * kv_elements(c.decoder) * (2 + 3 + 4 + 5 + 6 + 7 + 8 + 8);
  const double embeddings = kRows * 8 * width + kRows * 7 * width;  // stored in bf16
  EXPECT_NEAR(stage.work.bytes, 2 * (weights + backbone_cache + depth_cache + embeddings), 1);

  const double products =
      kRows * (matrix_elements(c.backbone) + vocabulary * width + 8 * depth_pass + 7 * vocabulary * depth_width);
  const double attention =
      2 * kRows *
      (static_cast<double>(c.backbone.num_layers * c.backbone.query_dim()) * (kContext + 3) +
       static_cast<double>(c.decoder.num_layers * c.decoder.query_dim()) * (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8));
  EXPECT_NEAR(stage.work.flop, 2 * (products + attention), 1);
}

TEST(Bench, a_prefill_counts_one_position_without_text) {
  Measured m;
  const HeartMula model = m.source.load_lm(*m.ops, DType::kF32);
  const Stage stage = bench::measure_prefill(*m.ops, m.meter, model, 30, 1);
  const TransformerConfig& c = model.config.backbone;
  const double keys_seen = 30.0 * 31 / 2 + 1;
  const double attention = 2 * static_cast<double>(c.num_layers * c.query_dim()) * keys_seen;
  EXPECT_NEAR(stage.work.flop, 2 * (31 * matrix_elements(c) + attention), 1);
}

TEST(Bench, codec_stages_have_samples_and_work) {
  Measured m;
  const HeartCodec codec = m.source.load_codec(*m.ops, DType::kF32);
  const Stage flow = bench::measure_flow_step(*m.ops, m.meter, codec, 2);
  EXPECT_EQ(flow.seconds.values.size(), 2U);
  // Every weight of a stack meets every position of both windows; the rest is attention and what is done once.
  const auto width = static_cast<double>(codec.config.width());
  const auto mlp = static_cast<double>(CodecConfig::mlp_width(codec.config.width()));
  const double blocks = static_cast<double>(codec.config.num_layers) * (4 * width * width + 3 * width * mlp);
  EXPECT_GT(flow.work.flop, 2 * 2 * kWindowLatents * blocks);
  const Stage wave = bench::measure_wave_decoder(*m.ops, m.meter, codec, 1);
  EXPECT_EQ(wave.seconds.values.size(), 1U);
  EXPECT_GT(wave.work.flop, 0);
}

TEST(Bench, a_run_reports_every_stage_with_its_limit_and_compares_with_itself) {
  bench::Options options;
  options.models.synthetic = kTinyCheckpoint;
  options.threads = 2;
  options.codec_dtypes = {DType::kF32, DType::kBF16};
  options.repeats = 1;
  options.context = 20;
  options.prompt = 20;
  const nlohmann::json json = bench::to_json(bench::run(
      options, [](const std::string&) {}, nullptr));
  EXPECT_GT(json.at("machine").at("read_gb_s"), 0);
  EXPECT_GT(json.at("machine").at("f32_gflop_s"), 0);
  EXPECT_GT(json.at("machine").at("bf16_gflop_s"), 0);
  EXPECT_GT(json.at("peak_memory_bytes"), 0);
  std::vector<std::string> names;
  for (const nlohmann::json& stage : json.at("stages")) {
    names.push_back(stage.at("name").get<std::string>() + " " + stage.at("dtype").get<std::string>());
    EXPECT_GT(stage.at("seconds"), 0) << names.back();
    if (stage.at("name") == "load") continue;
    EXPECT_GT(stage.at("limit_seconds"), 0) << names.back();
    EXPECT_NEAR(stage.at("fraction").get<double>() * stage.at("seconds").get<double>(), stage.at("limit_seconds"),
                1e-9);
  }
  EXPECT_THAT(names, testing::ElementsAre("load bf16", "frame bf16", "frame_4_songs bf16", "prefill bf16", "load f32",
                                          "flow_step f32", "wave_decoder f32", "load bf16", "flow_step bf16",
                                          "wave_decoder bf16", "first_audio bf16+f32", "song bf16+f32",
                                          "first_audio bf16+bf16", "song bf16+bf16"));
  EXPECT_THAT(bench::to_table(json), HasSubstr("wave_decoder"));
  const std::string comparison = bench::to_comparison(json, json, "old.json");
  EXPECT_THAT(comparison, HasSubstr("flow_step"));
  EXPECT_THAT(comparison, HasSubstr(" 1.000"));
}

TEST(Bench, wrong_choices_are_told) {
  const auto complaint = [](const bench::Options& options) -> std::string {
    try {
      bench::run(
          options, [](const std::string&) {}, nullptr);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUser);
      return error.what();
    }
    return "none";
  };
  bench::Options options;
  EXPECT_THAT(complaint(options), HasSubstr("--synthetic"));
  options.models.synthetic = "/no/such";
  EXPECT_THAT(complaint(options), HasSubstr("/no/such"));
  options.models.synthetic = kTinyCheckpoint;
  options.stages = {"frames"};
  EXPECT_THAT(complaint(options), HasSubstr("there is no stage \"frames\""));
  EXPECT_THROW(bench::to_comparison({{"a", 1}}, {{"stages", nlohmann::json::array()}}, "x"), Error);
}

}  // namespace
}  // namespace heartmula
