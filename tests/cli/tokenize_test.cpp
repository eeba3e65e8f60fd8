#include <map>

#include "cli/testing.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

const json& golden() {
  static const json golden = json_of(fs::path(kTinyCheckpoint) / "golden_text.json");
  return golden;
}

/// The ids that stand in the table of one text.
std::vector<int> ids_in(const std::string& table) {
  std::vector<int> ids;
  const std::vector<std::string> lines = lines_of(table);
  for (size_t i = 1; i < lines.size(); ++i) ids.push_back(std::stoi(lines[i]));
  return ids;
}

TEST(Tokenize, json_lines_give_the_ids_of_the_reference) {
  const TemporaryFolder folder;
  std::string lines;
  for (const json& item : golden()["encode"]) lines += item["text"].dump() + "\n";
  const Finished finished =
      succeeds({"tokenize", "--model_path", kTinyCheckpoint, "--jsonl", folder.write("texts.jsonl", lines)});
  const std::vector<std::string> out = lines_of(finished.out);
  ASSERT_EQ(out.size(), golden()["encode"].size());
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(json::parse(out[i]), golden()["encode"][i]["ids"]) << i;
}

TEST(Tokenize, texts_on_the_command_line_give_the_ids_of_the_reference) {
  for (const json& item : golden()["encode"]) {
    const auto text = item["text"].get<std::string>();
    if (text.find('\0') != std::string::npos) continue;  // no argument holds it
    const Finished finished = succeeds({"tokenize", "--tokenizer", kTinyCheckpoint + "/tokenizer.json", "--", text});
    EXPECT_EQ(json(ids_in(finished.out)), item["ids"]) << text;
  }
}

TEST(Tokenize, shows_the_pieces_of_each_text) {
  const Finished finished = succeeds({"tokenize", "--model_path", kTinyCheckpoint, "la la", "\xE5\xA4\x8F\n"});
  EXPECT_THAT(finished.out, AllOf(HasSubstr("\"la la\": "), HasSubstr("\"\xE5\xA4\x8F\\n\": ")));
  for (const std::string& line : lines_of(finished.out)) {
    EXPECT_THAT(line, testing::ContainsRegex("^(\"|  *[0-9]+  \")")) << "no piece";
  }
}

TEST(Tokenize, an_empty_text_is_a_text) {
  EXPECT_THAT(succeeds({"tokenize", "--model_path", kTinyCheckpoint, ""}).out, HasSubstr("\"\": "));
}

TEST(Tokenize, json_lines_may_end_as_windows_ends_them) {
  const TemporaryFolder folder;
  const fs::path lines = folder.write("texts", "\xEF\xBB\xBF\"la\"\r\n\"la\"\r\n");
  const std::vector<std::string> out =
      lines_of(succeeds({"tokenize", "--model_path", kTinyCheckpoint, "--jsonl", lines}).out);
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0], out[1]);
}

/// The ids of each part of a prompt, by its title.
std::map<std::string, std::vector<int>> parts_of(const std::string& out) {
  std::map<std::string, std::vector<int>> parts;
  std::string title;
  for (const std::string& line : lines_of(out)) {
    if (line.starts_with(" ")) {
      parts[title].push_back(std::stoi(line));
    } else {
      title = line.substr(0, line.find(':'));
    }
  }
  return parts;
}

TEST(Tokenize, the_prompt_is_the_one_that_the_reference_makes) {
  const TemporaryFolder folder;
  int count = 0;
  for (const json& item : golden()["preprocess"]) {
    // Files say exactly what is in them but for their line ends.
    if ((item["tags"].get<std::string>() + item["lyrics"].get<std::string>()).find('\r') != std::string::npos) continue;
    const fs::path tags = folder.write("tags", item["tags"].get<std::string>());
    const fs::path lyrics = folder.write("lyrics", item["lyrics"].get<std::string>());
    const Finished finished =
        succeeds({"tokenize", "--prompt", "--model_path", kTinyCheckpoint, "--tags", tags, "--lyrics", lyrics});
    auto parts = parts_of(finished.out);
    std::vector<int> ids = parts["tags"];
    EXPECT_EQ(ids.size(), item["muq_index"].get<size_t>());
    ids.push_back(0);
    ids.insert(ids.end(), parts["lyrics"].begin(), parts["lyrics"].end());
    EXPECT_EQ(json(ids), item["text_ids"]) << item;
    EXPECT_THAT(finished.out, HasSubstr("prompt: " + std::to_string(ids.size()) + " positions"));
    ++count;
  }
  EXPECT_GE(count, 3);
}

TEST(Tokenize, files_and_streams_are_read_as_generate_reads_them) {
  const TemporaryFolder folder;
  const std::string text = succeeds({"tokenize", "--model_path", kTinyCheckpoint, "--", "la\nla"}).out;
  EXPECT_EQ(succeeds({"tokenize", "--model_path", kTinyCheckpoint, folder.write("a.md", "la\r\nla")}).out, text);
  const std::string with = "heartmula tokenize --model_path " + kTinyCheckpoint + " ";
  EXPECT_EQ(run_script("printf 'la\\nla' | " + with + "-").out, text);
  EXPECT_EQ(run_script(with + "<(printf 'la\\nla')").out, text);
  const std::string ids = run_script("echo '\"la\"' | " + with + "--jsonl -").out;
  EXPECT_EQ(run_script(with + "--jsonl <(echo '\"la\"')").out, ids);
  EXPECT_TRUE(json::parse(ids).is_array());
  EXPECT_EQ(
      run_script("heartmula tokenize --tokenizer <(cat " + kTinyCheckpoint + "/tokenizer.json) 'la\nla'").exit_code, 0);
  EXPECT_EQ(run_script("HOME=" + kTinyCheckpoint + " heartmula tokenize --tokenizer='~/tokenizer.json' la").exit_code,
            0);
  EXPECT_EQ(run_script("HOME=" + kTinyCheckpoint + " heartmula tokenize --model_path='~' la").exit_code, 0);
}

TEST(Tokenize, a_closed_standard_output_is_a_failure) {
  const Finished finished = run_script("heartmula tokenize --model_path " + kTinyCheckpoint + " la >&-");
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(complaint(finished), HasSubstr("standard output"));
}

TEST(Tokenize, what_is_wrong_is_told) {
  const TemporaryFolder folder;
  const Arguments with = {"tokenize", "--model_path", kTinyCheckpoint};
  EXPECT_THAT(refused({"tokenize", "la"}, 2), HasSubstr("--tokenizer FILE"));
  EXPECT_THAT(refused(with, 2), HasSubstr("TEXT"));
  EXPECT_THAT(refused(with + Arguments{"--tokenizer", "x", "la"}, 2), HasSubstr("either"));
  EXPECT_THAT(refused(with + Arguments{"la", "--jsonl", "x"}, 2), HasSubstr("one of"));
  EXPECT_THAT(refused(with + Arguments{"la", "--tags", "x"}, 2), HasSubstr("--prompt"));
  EXPECT_THAT(refused(with + Arguments{"--prompt", "--tags", "x"}, 2), HasSubstr("--lyrics"));
  EXPECT_THAT(refused(with + Arguments{"moon.md"}, 2), AllOf(HasSubstr("no such file"), HasSubstr("--jsonl")));
  EXPECT_THAT(refused(with + Arguments{folder.path()}, 2), HasSubstr("is no file"));
  EXPECT_THAT(refused(with + Arguments{folder.write("wide", std::string("l\0a\0", 4))}, 2), HasSubstr("UTF-16"));
  EXPECT_THAT(refused({"tokenize", "--tokenizer", "/no/such/file", "la"}, 2), HasSubstr("/no/such/file"));
  EXPECT_THAT(refused({"tokenize", "--tokenizer", folder.write("empty", ""), "la"}, 2), HasSubstr("empty"));
  EXPECT_THAT(refused(with + Arguments{"\xff"}, 2), HasSubstr("byte 0"));
  EXPECT_THAT(refused(with + Arguments{"--jsonl", "/no/such/file"}, 2), HasSubstr("/no/such/file"));
  EXPECT_THAT(refused(with + Arguments{"--jsonl", folder.path()}, 2), HasSubstr("folder"));
  for (const std::string line : {"no JSON", "3", "[\"la\"]", "\"\\ud800\"", "\"\xff\"", ""}) {
    const Finished finished = run_program(with + Arguments{"--jsonl", folder.write("lines", "\"la\"\n" + line + "\n")});
    EXPECT_EQ(finished.exit_code, 2) << line;
    EXPECT_THAT(complaint(finished), HasSubstr("line 2 is no JSON string")) << line;
  }
}

TEST(Tokenize, a_folder_stands_for_the_tokenizer_in_it) {
  const std::string by_folder = succeeds({"tokenize", "--tokenizer", kTinyCheckpoint, "la"}).out;
  EXPECT_EQ(by_folder, succeeds({"tokenize", "--model_path", kTinyCheckpoint, "la"}).out);
  EXPECT_THAT(refused({"tokenize", "--tokenizer", kTinyCheckpoint + "/" + kCodecFolder, "la"}, 2),
              HasSubstr(kCodecFolder + "/tokenizer.json: no such file"));
}

}  // namespace
}  // namespace heartmula
