#include "cli/testing.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

TEST(BenchCommand, open_times_a_process_of_its_own_and_leaves_nothing) {
  if (emulated()) GTEST_SKIP() << "the emulator would have to start itself";
  const TemporaryFolder folder;
  const TemporaryFolder scratch;
  const Finished finished =
      run_script("TMPDIR=" + scratch.path().string() + " heartmula bench --synthetic " + kTinyCheckpoint +
                     " --stage open --context 20 --repeats 4 --threads 1 --json",
                 folder.path());
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  const json stages = json::parse(finished.out)["stages"];
  ASSERT_EQ(stages.size(), 1u);
  const json& open = stages[0];
  EXPECT_EQ(open["name"], "open");
  EXPECT_EQ(open["samples"], 2);
  ASSERT_EQ(open["parts"].size(), 3u);
  EXPECT_EQ(open["parts"][0]["name"], "cold");
  const json& prefill = open["parts"][1];
  EXPECT_EQ(prefill["name"], "prefill");
  EXPECT_GT(prefill["seconds"], 0);
  EXPECT_GT(open["seconds"], prefill["seconds"]);
  EXPECT_EQ(open["parts"][2]["name"], "frame, mapped");
  EXPECT_EQ(open["parts"][2]["samples"], 4);
  EXPECT_EQ(files_in(scratch.path()), std::set<std::string>());
}

TEST(BenchCommand, open_says_where_it_cannot_write) {
  const Finished finished =
      run_script("TMPDIR=/proc heartmula bench --synthetic " + kTinyCheckpoint + " --stage open --threads 1");
  EXPECT_NE(finished.exit_code, 0);
  EXPECT_THAT(complaint(finished), HasSubstr("/proc/heartmula-bench"));
  EXPECT_THAT(complaint(run_script("TMPDIR=/no/such heartmula bench --synthetic " + kTinyCheckpoint + " --stage open")),
              HasSubstr("TMPDIR is no folder"));
}

TEST(BenchCommand, more_positions_than_the_model_has_are_refused) {
  const TemporaryFolder folder;
  const std::string model = copy_of_checkpoint(folder);
  edit_json(fs::path(model) / kLmFolder / "config.json", [](json& config) { config["backbone"]["max_seq_len"] = 16; });
  const auto refuses = [&](const Arguments& flags) {
    return refused(Arguments{"bench", "--synthetic", model, "--threads", "1"} + flags, 2);
  };
  EXPECT_THAT(refuses({"--stage", "frame", "--context", "10", "--repeats", "5"}),
              AllOf(HasSubstr("--context 10 with --repeats 5 takes 17 positions"), HasSubstr("has 16")));
  EXPECT_THAT(refuses({"--stage", "prefill", "--context", "1", "--prompt", "16"}), HasSubstr("--prompt 16"));
  succeeds({"bench", "--synthetic", model, "--threads", "1", "--repeats", "1", "--stage", "frame,prefill", "--context",
            "13", "--prompt", "15", "--songs", "1"});
}

TEST(PlanCommand, predicts_for_a_machine_and_compares_with_a_run) {
  const TemporaryFolder folder;
  const std::string machine = environment("HEARTMULA_SOURCE_DIR") + "/machines/zen3-2core.json";
  const Arguments plan = {"plan", "--machine", machine, "--synthetic", kTinyCheckpoint, "--max_audio_length_ms",
                          "2000"};
  EXPECT_THAT(succeeds(plan).out, AllOf(HasSubstr("predicted, not measured"), HasSubstr("a song of 2 s")));
  Arguments as_json = plan;
  as_json.emplace_back("--json");
  const std::string first = folder.write("first.json", succeeds(as_json).out);
  Arguments compared = plan;
  compared.insert(compared.end(), {"--compare", first});
  EXPECT_THAT(succeeds(compared).out, HasSubstr(" 1.000"));
  compared.emplace_back("--json");
  const Finished both = succeeds(compared);
  EXPECT_TRUE(json::accept(both.out));
  EXPECT_THAT(both.err, HasSubstr(" 1.000"));
}

TEST(PlanCommand, a_machine_that_is_no_description_is_refused) {
  EXPECT_THAT(refused({"plan", "--machine", "/no/such.json"}, 2), HasSubstr("/no/such.json"));
  EXPECT_THAT(refused({"plan", "--machine", kTinyCheckpoint + "/gen_config.json"}, 2),
              HasSubstr("gen_config.json: name"));
  EXPECT_THAT(refused({"plan"}, 2), HasSubstr("--machine"));
}

}  // namespace
}  // namespace heartmula
