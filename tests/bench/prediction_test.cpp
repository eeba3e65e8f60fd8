// The dry run must count what the real one counts, and a described machine must get its own limits.
#include "bench/prediction.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/testing.h"
#include "bench/dry_ops.h"
#include "bench/report.h"
#include "bench/stages.h"
#include "cpu/cpu_ops.h"
#include "heartmula/error.h"

namespace heartmula {
namespace {

using bench::MachineDescription;
using bench::Stage;
using testing::HasSubstr;

const std::string kMachines = HEARTMULA_TEST_DATA "/../../../machines/";

nlohmann::json description() {
  return {{"name", "a machine"},
          {"isa", "neon"},
          {"threads", 8},
          {"memory_gb", 16},
          {"read_gb_s", 40},
          {"f32_gflop_s", 300},
          {"bf16_gflop_s", 600},
          {"source", "made up"},
          {"efficiency",
           {{"frame", {{"bf16", 0.5}}},
            {"prefill", {{"bf16", 0.5}}},
            {"flow_step", {{"f32", 0.25}}},
            {"wave_decoder", {{"f32", 0.25}}}}}};
}

MachineDescription read(const nlohmann::json& json) {
  const std::string path = testing::TempDir() + "machine.json";
  std::ofstream(path) << json;
  return MachineDescription::read(path);
}

bench::PlanOptions short_plan() {
  bench::PlanOptions options;
  options.models.synthetic = kTinyCheckpoint;
  options.songs = {1};
  options.context = 20;
  options.prompt = 20;
  options.frames = 30;
  return options;
}

std::vector<Stage> stages_on(std::unique_ptr<Ops> device, DType dtype) {
  bench::WorkMeter meter;
  const auto ops = make_metered_ops(std::move(device), meter);
  bench::ModelSource source({.synthetic = kTinyCheckpoint});
  const HeartMula lm = source.load_lm(*ops, dtype);
  const HeartCodec codec = source.load_codec(*ops, dtype);
  return {bench::measure_frame(*ops, meter, lm, 3, 40, 1), bench::measure_prefill(*ops, meter, lm, 30, 1),
          bench::measure_flow_step(*ops, meter, codec, 1), bench::measure_wave_decoder(*ops, meter, codec, 1)};
}

TEST(Prediction, a_dry_run_counts_the_work_of_a_real_one) {
  const auto device = make_cpu_ops({.threads = 1, .isa = {}});
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const std::vector<Stage> real = stages_on(make_cpu_ops({.threads = 1, .isa = {}}), dtype);
    const std::vector<Stage> dry = stages_on(std::make_unique<bench::DryOps>(*device), dtype);
    for (size_t i = 0; i < real.size(); ++i) {
      EXPECT_GT(real[i].work.flop, 0) << real[i].name;
      EXPECT_EQ(dry[i].work.bytes, real[i].work.bytes) << real[i].name;
      EXPECT_EQ(dry[i].work.flop, real[i].work.flop) << real[i].name;
    }
  }
}

TEST(Prediction, a_stage_takes_its_limit_over_its_efficiency) {
  const bench::Prediction prediction = bench::predict(read(description()), short_plan());
  const auto stage = [&](const std::string& name) {
    for (const Stage& one : prediction.stages) {
      if (one.name == name) return one;
    }
    ADD_FAILURE() << name;
    return Stage{};
  };
  for (const char* name : {"frame", "prefill"}) {
    const Stage one = stage(name);
    EXPECT_DOUBLE_EQ(one.seconds.median(), 2 * std::max(one.work.bytes / 40e9, one.work.flop / 600e9)) << name;
  }
  for (const char* name : {"flow_step", "wave_decoder"}) {
    const Stage one = stage(name);
    EXPECT_DOUBLE_EQ(one.seconds.median(), 4 * std::max(one.work.bytes / 40e9, one.work.flop / 300e9)) << name;
  }
  double parts = 0;
  for (const Stage& part : stage("frame").parts) parts += part.seconds.median();
  EXPECT_NEAR(parts, stage("frame").seconds.median(), 0.2 * parts);  // each has a limit of its own
  // One window: ten steps of it, and what is there of the song in the wave decoder.
  const double song = stage("prefill").seconds.median() + 30 * stage("frame").seconds.median() +
                      10 * stage("flow_step").seconds.median() + 2.4 * stage("wave_decoder").seconds.median();
  EXPECT_NEAR(stage("song").seconds.median(), song, 0.05 * song);
}

nlohmann::json card_description() {
  nlohmann::json json = description();
  json.erase("threads");
  json["isa"] = "cuda";
  json["operation_us"] = 4;
  return json;
}

TEST(Prediction, operations_of_a_frame_wait_for_one_another_on_a_card) {
  const bench::Prediction prediction = bench::predict(read(card_description()), short_plan());
  for (const Stage& stage : prediction.stages) {
    if (stage.name != "frame" && stage.name != "prefill") continue;
    const double work = 2 * std::max(stage.work.bytes / 40e9, stage.work.flop / 600e9);
    const double waiting = stage.name == "frame" ? 4e-6 * stage.work.operations : 0;
    EXPECT_GT(stage.work.operations, 10);
    EXPECT_DOUBLE_EQ(stage.seconds.median(), work + waiting) << stage.name;
  }
  const nlohmann::json json = bench::to_json(prediction);
  EXPECT_EQ(json["machine"]["device"], "cuda");
  EXPECT_EQ(json["memory"][0]["peak_bytes"], json["memory"][0]["cards"]["cuda:0"]["peak_bytes"]);
  EXPECT_THAT(bench::to_table(json), HasSubstr("a machine, cuda: reads 40.0 GB/s"));
}

TEST(Prediction, a_card_that_does_not_hold_both_models_holds_one_at_a_time) {
  nlohmann::json json = card_description();
  const int64_t both = bench::predict(read(json), short_plan()).memory[0].peak;
  json["memory_gb"] = static_cast<double>(both - 1) * 1e-9;
  const bench::Prediction::Memory less = bench::predict(read(json), short_plan()).memory[0];
  EXPECT_TRUE(less.plan.lazy_load);
  EXPECT_LT(less.peak, both);
  json["shares_memory"] = true;  // then the host's side counts, too
  json["memory_gb"] = 100;
  EXPECT_GT(bench::predict(read(json), short_plan()).memory[0].peak, both);
}

TEST(Prediction, other_numbers_of_songs_take_the_nearest_efficiency) {
  nlohmann::json json = description();
  json["efficiency"]["frame_8_songs"] = {{"bf16", 0.25}};
  const MachineDescription machine = read(json);
  const auto efficiency = [&](const char* name) {
    return machine.efficiency_of(bench::stage_of(name, DType::kBF16, ""));
  };
  EXPECT_EQ(efficiency("frame"), 0.5);
  EXPECT_EQ(efficiency("frame_2_songs"), 0.5);
  EXPECT_EQ(efficiency("frame_4_songs"), 0.25);
  EXPECT_EQ(efficiency("frame_64_songs"), 0.25);
}

TEST(Prediction, one_model_at_a_time_takes_less_memory) {
  bench::PlanOptions options = short_plan();
  const bench::Prediction both = bench::predict(read(description()), options);
  options.lazy_load = true;
  const bench::Prediction one = bench::predict(read(description()), options);
  EXPECT_LT(one.memory.front().plan.peak(), both.memory.front().plan.peak());
}

TEST(Prediction, reports_as_a_run_does_and_says_that_it_is_none) {
  const nlohmann::json json = bench::to_json(bench::predict(read(description()), short_plan()));
  EXPECT_EQ(json.at("machine").at("read_gb_s"), 40);
  const std::string table = bench::to_table(json);
  EXPECT_THAT(table, HasSubstr("predicted, not measured (made up)"));
  EXPECT_THAT(table, HasSubstr("real-time factor"));
  EXPECT_THAT(bench::to_comparison(json, json, "bench.json"), HasSubstr(" 1.000"));
}

TEST(Prediction, more_memory_than_the_machine_has_is_said) {
  nlohmann::json small = description();
  small["memory_gb"] = 0.01;
  EXPECT_THAT(bench::to_table(bench::to_json(bench::predict(read(small), short_plan()))),
              HasSubstr("more than the 0 GB there are"));
}

TEST(Prediction, faults_of_a_description_name_the_field) {
  const auto complaint = [](const nlohmann::json& json) -> std::string {
    try {
      bench::predict(read(json), short_plan());
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUser);
      return error.what();
    }
    return "none";
  };
  nlohmann::json json = description();
  json.erase("read_gb_s");
  EXPECT_THAT(complaint(json), HasSubstr("machine.json: read_gb_s"));
  json = description();
  json["bf16_gflop_s"] = -1;
  EXPECT_THAT(complaint(json), HasSubstr("machine.json: bf16_gflop_s"));
  json = description();
  json["efficiency"]["prefill"]["bf16"] = 2;
  EXPECT_THAT(complaint(json), HasSubstr("efficiency.prefill.bf16"));
  json["efficiency"]["prefill"] = 1;
  EXPECT_THAT(complaint(json), HasSubstr("efficiency.prefill"));
  json = description();
  json["efficiency"].erase("flow_step");
  EXPECT_THAT(complaint(json), HasSubstr("no efficiency of flow_step with f32 weights"));
}

TEST(Prediction, the_machines_that_ship_can_be_planned_for_in_every_dtype) {
  bench::PlanOptions options = short_plan();
  options.songs = {1, 4};
  options.mula_dtypes = options.codec_dtypes = {DType::kBF16, DType::kF32};
  for (const char* name : {"gb10-cpu", "a78-8core-16gb", "zen3-2core"}) {
    const MachineDescription machine = MachineDescription::read(kMachines + name + ".json");
    const bench::Prediction prediction = bench::predict(machine, options);
    EXPECT_EQ(prediction.memory.size(), 4U) << name;
    EXPECT_FALSE(machine.source.empty());
  }
}

}  // namespace
}  // namespace heartmula
