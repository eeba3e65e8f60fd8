// A report says what is known, says so where nothing is, and finds what is wrong with a checkpoint.
#include "bench/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/machines.h"
#include "base/testing.h"
#include "checkpoint/inspect.h"

namespace heartmula::bench {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

json examined(const CheckpointSettings& checkpoint) {
  return examine({.checkpoint = checkpoint, .measure_memory = false});
}

/// A copy of the checkpoint, to be broken.
class Doctor : public testing::Test {
 protected:
  Doctor() { fs::copy(kTinyCheckpoint, folder_ / "ckpt", fs::copy_options::recursive); }

  json report() const { return examined({.model_path = folder_ / "ckpt"}); }
  /// The one problem.
  std::string problem() const {
    const json found = report();
    EXPECT_FALSE(found["checkpoint"]["complete"].get<bool>());
    EXPECT_THAT(describe_examination(found), HasSubstr("not complete"));
    EXPECT_EQ(found["problems"].size(), 1u) << found["problems"];
    return found["problems"].empty() ? "" : found["problems"][0].get<std::string>();
  }
  TemporaryFolder folder_;
};

TEST_F(Doctor, a_machine_is_described_as_its_files_do) {
  const TemporaryFolder root;
  machines::write_gb10(root);
  root.write("proc/meminfo", "MemTotal: 128000000 kB\nMemAvailable: 100000000 kB\n");
  root.write("proc/cpuinfo", "model name : Some Processor 9000\n");
  root.write("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
  root.write("etc/os-release", "NAME=x\nPRETTY_NAME=\"Some Linux 12\"\n");
  const json found = examine({.measure_memory = false, .root = root.path()});
  EXPECT_EQ(found["cpu"]["model"], "Some Processor 9000");
  EXPECT_EQ(found["memory"]["total_bytes"], 128000000ull * 1024);
  EXPECT_EQ(found["memory"]["huge_pages"], "never");
  EXPECT_EQ(found["system"]["distribution"], "Some Linux 12");
  ASSERT_EQ(found["problems"].size(), 1u);
  EXPECT_THAT(found["problems"][0].get<std::string>(), AllOf(HasSubstr("huge pages"), HasSubstr("echo madvise")));
  EXPECT_THAT(describe_examination(found), AllOf(HasSubstr("Some Processor 9000"), HasSubstr("131.1 GB, 102.4 GB"),
                                                 HasSubstr("problem "), Not(HasSubstr("checkpoint"))));
}

TEST_F(Doctor, what_the_system_does_not_say_is_unknown) {
  const TemporaryFolder nothing;
  const json found = examine({.measure_memory = false, .root = nothing.path()});
  for (const char* field : {"total_bytes", "available_bytes", "huge_pages", "read_bytes_per_second"}) {
    EXPECT_TRUE(found["memory"][field].is_null()) << field;
  }
  EXPECT_TRUE(found["cpu"]["model"].is_null());
  EXPECT_EQ(found["problems"], json::array());
  EXPECT_THAT(describe_examination(found),
              AllOf(HasSubstr("unknown, unknown available"), HasSubstr("problems         none")));
}

TEST_F(Doctor, memory_is_read) {
  const json found = examine({});
  EXPECT_GT(found["memory"]["read_bytes_per_second"].get<double>(), 1e6);
  EXPECT_GE(found["memory"]["read_threads"], 1);
}

TEST_F(Doctor, a_whole_checkpoint_has_no_problem) {
  const json found = report();
  EXPECT_TRUE(found["checkpoint"]["complete"].get<bool>()) << found;
  ASSERT_EQ(found["checkpoint"]["parts"].size(), 4u);
  for (const json& part : found["checkpoint"]["parts"]) EXPECT_TRUE(part["complete"].get<bool>()) << part;
  EXPECT_THAT(describe_examination(found), AllOf(HasSubstr("HeartMuLa-oss-3B: "), HasSubstr("tokenizer.json: "),
                                                 Not(HasSubstr(folder_.path().string()))));
}

TEST_F(Doctor, what_is_missing_is_named_and_the_rest_examined) {
  fs::remove(folder_ / "ckpt/tokenizer.json");
  EXPECT_THAT(problem(), HasSubstr("tokenizer.json"));
  EXPECT_EQ(report()["checkpoint"]["parts"].size(), 2u) << "both models";
  fs::remove_all(folder_ / "ckpt/HeartMuLa-oss-3B");
  EXPECT_THAT(problem(), HasSubstr("HeartMuLa-oss-3B"));
  ASSERT_EQ(report()["checkpoint"]["parts"].size(), 1u);
  EXPECT_TRUE(report()["checkpoint"]["parts"][0]["complete"].get<bool>());
  fs::remove_all(folder_ / "ckpt");
  EXPECT_THAT(problem(), HasSubstr("no such folder"));
}

TEST_F(Doctor, an_end_beyond_the_codes_is_told) {
  const fs::path path = folder_ / "ckpt/gen_config.json";
  json config = json::parse(std::ifstream(path));
  config["audio_eos_id"] = 1 << 20;
  std::ofstream(path) << config;
  EXPECT_THAT(problem(), HasSubstr("gen_config.json: audio_eos_id is 1048576, but the greatest for "));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { inspect_folder(folder_ / "ckpt"); }),
              HasSubstr("audio_eos_id is 1048576"));
}

TEST_F(Doctor, a_part_that_is_cut_short_is_named) {
  const fs::path weights = folder_ / "ckpt/HeartCodec-oss/model.safetensors";
  fs::resize_file(weights, fs::file_size(weights) - 1);
  EXPECT_THAT(problem(), HasSubstr("HeartCodec-oss/model.safetensors"));
  EXPECT_THAT(describe_examination(report()), HasSubstr("HeartCodec-oss: broken"));
}

TEST_F(Doctor, a_model_in_the_place_of_the_other_is_told) {
  const json found = examined({.model_path = folder_ / "ckpt", .mula_path = folder_ / "ckpt/HeartCodec-oss"});
  ASSERT_EQ(found["problems"].size(), 1u);
  EXPECT_THAT(found["problems"][0].get<std::string>(), HasSubstr("is a HeartCodec, not a HeartMuLa"));
}

}  // namespace
}  // namespace heartmula::bench
