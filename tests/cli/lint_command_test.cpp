// heartmula lint as a user runs it.
#include "cli/testing.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

const std::string kDemo = (fs::path(HEARTMULA_TEST_DATA) / "../../../demo").lexically_normal().string();
const std::string kVocabulary = R"({"tags": ["piano", "happy"], "sections": ["verse"]})";

TEST(LintCommand, prints_a_line_for_each_warning) {
  const Finished finished = succeeds({"lint", "--lyrics_text", "[Verse]\nla la\n[Drop]\n", "--tags", "piano, happy"});
  const std::vector<std::string> lines = lines_of(finished.out);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0],
            "lyrics:3: [Drop] is no section that the model knows; it will be sung: use [Bridge] [unknown-section]");
  EXPECT_THAT(lines[1], AllOf(HasSubstr("lyrics: "), HasSubstr("[too-short]")));
  EXPECT_THAT(lines[2], AllOf(HasSubstr("tags: "), HasSubstr("[space-around-comma]")));
}

TEST(LintCommand, prints_json) {
  const json printed = json::parse(
      succeeds({"lint", "--model_path", kDemo, "--lyrics_text", "[drop]\nblue moon\nblue moon", "--json"}).out);
  ASSERT_EQ(printed["warnings"].size(), 1u);
  const json& warning = printed["warnings"][0];
  EXPECT_EQ(warning["field"], "lyrics");
  EXPECT_EQ(warning["line"], 1);
  EXPECT_EQ(warning["code"], "unknown-section");
  EXPECT_EQ(warning["suggestion"], "[verse]");
}

TEST(LintCommand, has_nothing_to_say_of_the_demo) {
  EXPECT_EQ(succeeds({"lint", "--model_path", kDemo, "--lyrics", kDemo + "/lyrics.txt", "--tags", kDemo + "/tags.txt",
                      "--max_audio_length_ms", "24000"})
                .out,
            "");
}

TEST(LintCommand, knows_what_the_checkpoint_was_trained_on_and_needs_no_models) {
  const TemporaryFolder folder;
  EXPECT_THAT(succeeds({"lint", "--model_path", kDemo, "--tags", "gitar"}).out, HasSubstr("use guitar"));
  EXPECT_EQ(succeeds({"lint", "--model_path", folder.path(), "--tags", "gitar"}).out, "");
  folder.write("vocabulary.json", kVocabulary);
  EXPECT_THAT(succeeds({"lint", "--model_path", folder.path(), "--tags", "paino"}).out, HasSubstr("use piano"));
}

TEST(LintCommand, a_packed_checkpoint_keeps_the_vocabulary) {
  const TemporaryFolder folder;
  const std::string stock = copy_of_checkpoint(folder);
  std::ofstream(stock + "/vocabulary.json") << kVocabulary;
  const std::string packed = folder / "packed";
  const Arguments convert = {"convert", "--model_path", stock, "--save_path", packed, "--progress", "none"};
  succeeds(convert);
  EXPECT_EQ(contents(packed + "/vocabulary.json"), kVocabulary);

  std::ofstream(stock + "/vocabulary.json") << R"({"tags": 3})";
  fs::remove_all(packed);
  EXPECT_THAT(refused(convert, 2), AllOf(HasSubstr("vocabulary.json"), HasSubstr("tags")));
}

TEST(LintCommand, what_is_wrong_is_told) {
  const TemporaryFolder folder;
  EXPECT_THAT(refused({"lint"}, 2), HasSubstr("--lyrics"));
  EXPECT_THAT(refused({"lint", "--tags", "a", "--tags_text", "b"}, 2), HasSubstr("choose one"));
  EXPECT_THAT(refused({"lint", "--lyrics", "moon.txt"}, 2), HasSubstr("no such file"));
  EXPECT_THAT(refused({"lint", "--lyrics_text", "\xff"}, 2), HasSubstr("byte 0"));
  EXPECT_THAT(refused({"lint", "--tags", "a", "--max_audio_length_ms", "-1"}, 2), HasSubstr("--max_audio_length_ms"));
  EXPECT_THAT(refused({"lint", "--tags", "a", "--model_path", "/no/such"}, 2), HasSubstr("/no/such"));
  for (const std::string bad : {"", "{", "[]", R"({"tags": [1]})", R"({"scripts": ["x"]})"}) {
    folder.write("vocabulary.json", bad);
    EXPECT_THAT(refused({"lint", "--tags", "a", "--model_path", folder.path()}, 2), HasSubstr("vocabulary.json"))
        << bad;
  }
}

}  // namespace
}  // namespace heartmula
