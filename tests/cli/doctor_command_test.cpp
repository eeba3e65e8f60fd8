#include "cli/testing.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(Doctor, the_report_is_text_or_json) {
  const Finished text = run_program({"doctor", "--model_path", kTinyCheckpoint});
  EXPECT_TRUE(text.exit_code == 0 || text.exit_code == 1) << text.err;  // this machine may have a problem
  EXPECT_EQ(text.err, "");
  for (const char* word : {"heartmula ", "cpu ", "memory ", "libsndfile", "TagLib", "ICU", "Highway", "fmt", "spdlog",
                           "checkpoint       complete", "problem"}) {
    EXPECT_THAT(text.out, HasSubstr(word));
  }
  EXPECT_THAT(text.out, Not(HasSubstr(kTinyCheckpoint))) << "no folders where nothing is wrong with them";
  const json report = json::parse(run_program({"doctor", "--json", "--model-path", kTinyCheckpoint}).out);
  EXPECT_TRUE(report["checkpoint"]["complete"].get<bool>());
  EXPECT_THAT(text.out, AllOf(HasSubstr(report["program"]["version"].get<std::string>()),
                              HasSubstr(report["program"]["build_type"].get<std::string>())));
}

TEST(Doctor, a_problem_is_exit_code_1) {
  const Finished finished = run_program({"doctor", "--model_path", "/no/such/folder"});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(finished.out, AllOf(HasSubstr("not complete"), HasSubstr("/no/such/folder: no such folder")));
  const Finished isa = run_script("HEARTMULA_ISA=sse9 heartmula doctor");
  EXPECT_EQ(isa.exit_code, 1);
  EXPECT_THAT(isa.out, AllOf(HasSubstr("unknown of "), HasSubstr("sse9"), HasSubstr("HEARTMULA_ISA=sse9")));
}

}  // namespace
}  // namespace heartmula
