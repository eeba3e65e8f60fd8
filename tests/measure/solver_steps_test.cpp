#include "measure/solver_steps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/testing.h"
#include "heartmula/error.h"
#include "song/codes_file.h"

namespace heartmula {
namespace {

using testing::HasSubstr;

std::string some_codes(const TemporaryFolder& folder, const char* name, size_t frames) {
  std::vector<Frame> begin(frames);
  for (size_t t = 0; t < frames; ++t) {
    for (size_t q = 0; q < begin[t].size(); ++q) begin[t][q] = static_cast<int32_t>((7 * t + 3 * q + t * t) % 64);
  }
  CodesWriter writer(folder / name, {"{}", "", ""}, std::vector<Frame>(begin.begin(), begin.end() - 1));
  writer.append(begin.back());
  writer.finish();
  return (folder / name).string();
}

StepsOptions options_for(const TemporaryFolder& folder) {
  StepsOptions options;
  options.checkpoint.model_path = kTinyCheckpoint;
  options.machine.threads = 2;
  options.codes = {some_codes(folder, "one.codes.safetensors", 12), some_codes(folder, "two.codes.safetensors", 20)};
  options.passage_ms = 1200;
  options.fine_steps = 12;
  return options;
}

nlohmann::json measured(const StepsOptions& options) {
  return measure_solver_steps(
      options, [](const std::string&) {}, nullptr);
}

TEST(SolverSteps, the_fine_solution_itself_is_at_no_distance_and_other_noise_far_away) {
  const TemporaryFolder folder;
  StepsOptions options = options_for(folder);
  options.tries = {"solver=ab2 steps=12", "quality=reference", "steps=1"};
  const nlohmann::json steps = measured(options);
  const nlohmann::json& rows = steps["rows"];
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_EQ(rows[0]["log_mel_db"], 0);
  EXPECT_EQ(rows[0]["levels_changed"], 0);
  EXPECT_EQ(rows[0]["evaluations"], 24);
  EXPECT_GT(rows[1]["log_mel_db"], 0);
  EXPECT_GT(rows[2]["log_mel_db"], rows[1]["log_mel_db"]);
  EXPECT_EQ(rows[2]["evaluations"], 2);
  EXPECT_EQ(rows[4]["try"], "other noise, fine");
  EXPECT_GT(rows[4]["levels_changed"], 0.1);
  EXPECT_EQ(steps["recommended"], "quality=reference");  // the only one that is near and cheap
  EXPECT_THAT(describe_solver_steps(steps), AllOf(HasSubstr("quality=reference"), HasSubstr("recommended")));
  EXPECT_THAT(draw_solver_steps(steps), AllOf(testing::StartsWith("<svg"), HasSubstr("steps=1</text>")));
}

TEST(SolverSteps, a_cheaper_way_that_is_as_near_is_recommended_and_written_for_the_blind_test) {
  const TemporaryFolder folder;
  StepsOptions options = options_for(folder);
  options.tries = {"quality=reference", "solver=ab2 steps=9"};
  options.fine_steps = 9;  // so it is the fine solution
  options.abx = folder / "pieces";
  const nlohmann::json steps = measured(options);
  ASSERT_LT(steps["rows"][1]["log_mel_db"], steps["rows"][0]["log_mel_db"]);
  EXPECT_EQ(steps["recommended"], "solver=ab2 steps=9");
  for (const char* piece : {"reference/one.wav", "reference/two.wav", "recommended/one.wav", "recommended/two.wav"}) {
    EXPECT_TRUE(std::filesystem::exists(folder / "pieces" / piece)) << piece;
  }
}

TEST(SolverSteps, what_cannot_work_is_told_before_the_work) {
  const TemporaryFolder folder;
  const auto told = [](const StepsOptions& options) {
    return error_of(ErrorKind::kUser, [&] {
      measure_solver_steps(
          options, [](const std::string& text) { ADD_FAILURE() << text; }, nullptr);
    });
  };
  StepsOptions options = options_for(folder);
  options.codes.push_back((folder.path() / "none").string());
  EXPECT_THAT(told(options), HasSubstr("none: no such file"));
  options = options_for(folder);
  options.abx = folder.path() / "abx";
  options.tries = {"quality=fast"};
  EXPECT_THAT(told(options), HasSubstr("--abx: compares quality=reference"));
  options.tries = {"quality=reference", "quality=fast"};
  std::filesystem::create_directory(folder.path() / "more");
  options.codes.push_back(some_codes(folder, "more/one.codes.safetensors", 12));
  EXPECT_THAT(told(options), HasSubstr("two songs are named one"));
  options = options_for(folder);
  options.abx = folder.write("file", "x");
  EXPECT_THAT(told(options), HasSubstr("--abx "));
}

TEST(SolverSteps, a_student_is_measured_beside_its_teacher) {
  const TemporaryFolder folder;
  const std::string student1 = std::string(HEARTMULA_TEST_DATA) + "/student1";
  StepsOptions options = options_for(folder);
  options.checkpoint = {.model_path = "", .codec_path = student1 + "/HeartCodec-student"};
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { measured(options); }), HasSubstr("--against"));
  options.against = student1 + "/HeartCodec-base";
  options.codes.resize(1);
  const nlohmann::json steps = measured(options);
  EXPECT_EQ(steps["rows"][0]["try"], "steps=4");
  EXPECT_EQ(steps["rows"][2]["try"], "steps=1");
  EXPECT_EQ(steps["rows"][2]["evaluations"], 1);
  EXPECT_TRUE(steps["recommended"].is_null());
}

TEST(SolverSteps, tries_are_words_of_the_codecs_settings) {
  const CodecSettings balanced = parse_try("steps=8 quality=balanced");  // in the table's order
  EXPECT_EQ(balanced.flow.solver, FlowSolver::kAb2);
  EXPECT_EQ(balanced.flow.steps, 8);
  EXPECT_EQ(parse_try("codec_solver=heun windows=early").windows, WindowScheme::kEarly);
  const auto complaint = [](const char* words) { return error_of(ErrorKind::kUser, [&] { parse_try(words); }); };
  EXPECT_THAT(complaint("steps"), HasSubstr("\"steps\""));
  EXPECT_THAT(complaint("topk=3"), HasSubstr("no setting of the codec"));
  EXPECT_THAT(complaint("steps=0"), HasSubstr("steps is 0"));
  EXPECT_THAT(complaint("steps=2 guidance_steps=0,2"), HasSubstr("only steps 0 to 1"));
}

}  // namespace
}  // namespace heartmula
