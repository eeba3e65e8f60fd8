// `heartmula verify` as a program: exit codes, JSON, threads and instruction sets.
#include <algorithm>
#include <cstring>

#include "cli/testing.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

/// The smallest case without its long parts, to be broken.
class Verify : public testing::Test {
 protected:
  Verify() {
    fs::copy(kTinyCheckpoint, case_, fs::copy_options::recursive);
    keep("golden_codec.safetensors", "one.");
    keep("golden_pipeline.safetensors", "run0.");
  }

  /// Gives the tensors that do not begin so a name behind it where nobody looks for them.
  void keep(const std::string& file, const std::string& beginning) {
    edit_header(case_ / file, [&](json& header) {
      json kept;
      for (const auto& item : header.items()) {
        std::string name = item.key();
        if (name != "__metadata__" && !name.starts_with(beginning)) {
          std::replace(name.begin(), name.end(), '.', '/');
          name = beginning + name;
        }
        kept[name] = item.value();
      }
      header = kept;
    });
  }

  /// Adds to the first value of a tensor.
  void change(const std::string& file, const std::string& tensor, float difference) {
    const fs::path path = case_ / file;
    std::string bytes = contents(path);
    uint64_t length = 0;
    for (size_t i = 0; i < 8; ++i) length |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
    const json header = json::parse(bytes.substr(8, length));
    const size_t at = 8 + length + header[tensor]["data_offsets"][0].get<size_t>();
    float value = 0;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    value += difference;
    std::memcpy(bytes.data() + at, &value, sizeof value);
    std::ofstream(path, std::ios::binary) << bytes;
  }

  Finished verify(const Arguments& flags = {}) const { return run_program(Arguments{"verify", case_} + flags); }
  /// With an environment variable.
  Finished verify_with_isa(const std::string& isa, const std::string& flags = "") const {
    return run_script("HEARTMULA_ISA=" + isa + " heartmula verify " + flags + " " + case_.string());
  }
  /// The lines of a failure.
  static std::string failures(const Finished& finished) {
    std::string lines;
    for (const std::string& line : lines_of(finished.out)) {
      if (line.find(" FAIL ") != std::string::npos) lines += line + "\n";
    }
    return lines;
  }

  TemporaryFolder folder_;
  const fs::path case_ = folder_ / "case";
};

TEST_F(Verify, a_good_case_passes_in_the_same_way_with_any_number_of_threads) {
  const Finished table = verify();
  EXPECT_EQ(table.exit_code, 0) << table.out << table.err;
  EXPECT_EQ(failures(table), "");
  EXPECT_THAT(table.out, HasSubstr("stages pass on cpu ("));
  const Finished one = verify({"--json", "--threads", "1"});
  const Finished three = verify({"--json", "--threads", "3"});
  EXPECT_EQ(one.exit_code, 0);
  const json result = json::parse(one.out);
  EXPECT_EQ(result["passed"], true);
  EXPECT_THAT(result["device"].get<std::string>(), HasSubstr("1 thread)"));
  EXPECT_THAT(json::parse(three.out)["device"].get<std::string>(), HasSubstr("3 threads)"));
  EXPECT_EQ(json::parse(three.out)["stages"], result["stages"]);
}

TEST_F(Verify, the_instruction_set_is_the_one_that_is_asked_for) {
  const Finished wrong = verify_with_isa("sse9");
  EXPECT_EQ(wrong.exit_code, 2);
  const std::string message = complaint(wrong);
  EXPECT_THAT(message, HasSubstr("\"sse9\""));
  const std::string before = "there are: ";
  ASSERT_THAT(message, HasSubstr(before));
  const std::string list = message.substr(message.find(before) + before.size());
  const std::string plainest = list.substr(0, list.find(','));
  const Finished finished = verify_with_isa(plainest);
  EXPECT_EQ(finished.exit_code, 0) << finished.out << finished.err;
  EXPECT_THAT(finished.out, HasSubstr("cpu (" + plainest + ","));
}

TEST_F(Verify, a_changed_weight_fails_its_stage) {
  change("HeartCodec-oss/model.safetensors", "flow_matching.estimator.transformer_blocks.0.mlp.down.weight", 0.5f);
  const Finished finished = verify();
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(failures(finished), AllOf(HasSubstr("codec one"), Not(HasSubstr("lm "))));
  const Finished as_json = verify({"--json"});
  EXPECT_EQ(as_json.exit_code, 1);
  EXPECT_EQ(json::parse(as_json.out)["passed"], false);
}

TEST_F(Verify, a_changed_weight_of_the_language_model_fails_its_stage) {
  change("HeartMuLa-oss-3B/model.safetensors", "backbone.layers.0.attn.q_proj.weight", 0.5f);
  const Finished finished = verify();
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(failures(finished), AllOf(HasSubstr("lm f32"), Not(HasSubstr("codec"))));
}

TEST_F(Verify, every_missing_file_fails) {
  for (const std::string name :
       {"golden_text.json", "golden_codec.safetensors", "HeartMuLa-oss-3B/model.safetensors"}) {
    fs::rename(case_ / name, folder_ / "away");
    const Finished finished = verify();
    EXPECT_EQ(finished.exit_code, 1) << name;
    EXPECT_THAT(failures(finished), HasSubstr(name.substr(name.find('/') + 1))) << name;
    fs::rename(folder_ / "away", case_ / name);
  }
}

TEST_F(Verify, what_is_no_case_is_refused) {
  EXPECT_THAT(refused({"verify", "/no/such/folder"}, 2), HasSubstr("/no/such/folder"));
  EXPECT_THAT(refused({"verify", case_ / "tokenizer.json"}, 2), HasSubstr("tokenizer.json"));
  EXPECT_THAT(refused({"verify", case_ / "HeartMuLa-oss-3B"}, 2), HasSubstr("is no golden case"));
  EXPECT_THAT(refused({"verify", case_, "--threads", "100000"}, 2), HasSubstr("threads"));
}

}  // namespace
}  // namespace heartmula
