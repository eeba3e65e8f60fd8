#include "checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/testing.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

/// A folder with these entries; those that end in '/' are folders.
struct Folder {
  explicit Folder(const std::vector<std::string>& entries) {
    for (const std::string& entry : entries) {
      if (entry.ends_with('/')) {
        fs::create_directory(files / entry);
      } else {
        files.write(entry, "{}");
      }
    }
  }
  TemporaryFolder files;
};

CheckpointPaths find(const Folder& folder, const std::string& version = "3B",
                     CheckpointParts parts = CheckpointParts::kAll) {
  return find_checkpoint({.model_path = folder.files.path().string(), .version = version}, parts);
}

std::string found(const std::vector<std::string>& folders, const std::string& version = "3B") {
  Folder folder(folders);
  folder.files.write("tokenizer.json", "{}");
  folder.files.write("gen_config.json", "{}");
  const CheckpointPaths paths = find(folder, version);
  EXPECT_EQ(paths.tokenizer, folder.files / "tokenizer.json");
  EXPECT_EQ(paths.gen_config, folder.files / "gen_config.json");
  return paths.mula.filename().string() + " " + paths.codec.filename().string();
}

TEST(Checkpoint, the_official_layout_is_found) {
  EXPECT_EQ(found({"HeartMuLa-oss-3B/", "HeartCodec-oss/"}), "HeartMuLa-oss-3B HeartCodec-oss");
  EXPECT_EQ(found({"HeartMuLa-oss-3B/", "HeartMuLa-oss-7B/", "HeartCodec-oss/"}, "7B"),
            "HeartMuLa-oss-7B HeartCodec-oss");
}

TEST(Checkpoint, the_names_of_later_releases_are_found) {
  EXPECT_EQ(found({"HeartMuLa-oss-3B-happy-new-year/", "HeartCodec-oss-20260123/"}),
            "HeartMuLa-oss-3B-happy-new-year HeartCodec-oss-20260123");
  EXPECT_EQ(found({"HeartMuLa-RL-oss-3B-20260123/", "HeartCodec-oss/"}), "HeartMuLa-RL-oss-3B-20260123 HeartCodec-oss");
  EXPECT_EQ(found({"HeartMuLa-oss-3B/", "HeartMuLa-oss-3B-old/", "HeartCodec-oss/", "HeartCodec-oss-old/"}),
            "HeartMuLa-oss-3B HeartCodec-oss");
}

TEST(Checkpoint, a_download_that_has_not_ended_is_named) {
  Folder folder({"HeartMuLa-oss-3B/", "tokenizer.json"});
  folder.files.write("gen_config.json.part", "");
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { find(folder); }),
              AllOf(HasSubstr("HeartCodec-oss/ (or --codec_path DIR), gen_config.json missing"),
                    HasSubstr("gen_config.json.part says that")));
}

TEST(Checkpoint, two_that_could_be_meant_are_both_named) {
  EXPECT_THAT(error_of(ErrorKind::kUser,
                       [] {
                         found({"HeartMuLa-oss-3B-b/", "HeartMuLa-RL-oss-3B/", "HeartCodec-oss/"});
                       }),
              AllOf(HasSubstr("HeartMuLa-RL-oss-3B, HeartMuLa-oss-3B-b"), HasSubstr("--version RL-oss-3B"),
                    HasSubstr("--version 3B-b"), HasSubstr("--mula_path")));
  EXPECT_THAT(
      error_of(ErrorKind::kUser,
               [] {
                 found({"HeartMuLa-oss-3B/", "HeartCodec-oss-a/", "HeartCodec-oss-b/"});
               }),
      AllOf(HasSubstr("HeartCodec-oss-a, HeartCodec-oss-b"), HasSubstr("--codec_path"), Not(HasSubstr("--version"))));
}

TEST(Checkpoint, a_version_is_what_people_call_the_release) {
  const std::vector<std::string> folders = {"HeartMuLa-oss-3B/",
                                            "HeartMuLa-oss-3B-happy-new-year/",
                                            "HeartMuLa-RL-oss-3B-20260123/",
                                            "HeartMuLa-oss-7B/",
                                            "mine/",
                                            "HeartCodec-oss/"};
  const auto model = [&](const std::string& version) {
    const std::string both = found(folders, version);
    return both.substr(0, both.find(' '));
  };
  EXPECT_EQ(model("3B"), "HeartMuLa-oss-3B");
  EXPECT_EQ(model("oss-3B"), "HeartMuLa-oss-3B");
  for (const char* version : {"3B-happy-new-year", "oss-3B-happy-new-year", "HeartMuLa-oss-3B-happy-new-year"}) {
    EXPECT_EQ(model(version), "HeartMuLa-oss-3B-happy-new-year") << version;
  }
  for (const char* version : {"RL-oss-3B-20260123", "HeartMuLa-RL-oss-3B-20260123", "RL-oss-3B"}) {
    EXPECT_EQ(model(version), "HeartMuLa-RL-oss-3B-20260123") << version;
  }
  EXPECT_EQ(model("7B"), "HeartMuLa-oss-7B");
  EXPECT_EQ(model("mine"), "mine");
  EXPECT_THAT(
      error_of(ErrorKind::kUser, [&] { model("1B"); }),
      AllOf(HasSubstr("HeartMuLa-oss-1B/"), HasSubstr("--version 7B"), HasSubstr("--version RL-oss-3B-20260123")));
}

TEST(Checkpoint, a_size_is_no_beginning_of_another) {
  EXPECT_THAT(error_of(ErrorKind::kUser,
                       [] {
                         found({"HeartMuLa-RL-oss-30B/", "HeartCodec-oss/"}, "3");
                       }),
              HasSubstr("HeartMuLa-oss-3/"));
}

TEST(Checkpoint, a_choice_among_several_is_told) {
  Folder folder({"tokenizer.json", "gen_config.json", "HeartMuLa-oss-3B/", "HeartMuLa-RL-oss-3B-20260123/",
                 "HeartCodec-oss/", "HeartCodec-oss-20260123/"});
  const std::vector<std::string> notes = find(folder).notes;
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_THAT(notes[0], AllOf(HasSubstr("takes HeartCodec-oss;"), HasSubstr("HeartCodec-oss-20260123"),
                              HasSubstr("--codec_path")));
  EXPECT_THAT(notes[1], AllOf(HasSubstr("takes HeartMuLa-oss-3B;"), HasSubstr("--version RL-oss-3B-20260123")));
  fs::remove(folder.files / "HeartCodec-oss-20260123");
  EXPECT_THAT(find(folder, "RL-oss-3B-20260123").notes, testing::IsEmpty()) << "it was said which";
}

/// The parts of a checkpoint, each in a place of its own.
class Apart : public testing::Test {
 protected:
  Apart() {
    folder_.write("lm/config.json", "{}");
    folder_.write("codec/config.json", "{}");
    folder_.write("text/tokenizer.json", "{}");
    folder_.write("text/gen_config.json", "{}");
    settings_.mula_path = folder_ / "lm";
    settings_.codec_path = folder_ / "codec";
    settings_.tokenizer = folder_ / "text/tokenizer.json";
  }
  CheckpointPaths find() const { return find_checkpoint(settings_, CheckpointParts::kAll); }
  std::string complaint() const {
    return error_of(ErrorKind::kUser, [this] { find(); });
  }

  TemporaryFolder folder_;
  CheckpointSettings settings_;
};

TEST_F(Apart, parts_say_everything_without_a_model_path) {
  CheckpointPaths paths = find();
  EXPECT_EQ(paths.mula, folder_ / "lm");
  EXPECT_EQ(paths.codec, folder_ / "codec");
  EXPECT_EQ(paths.tokenizer, folder_ / "text/tokenizer.json");
  EXPECT_EQ(paths.gen_config, folder_ / "text/gen_config.json");
  settings_.tokenizer = folder_ / "text";
  EXPECT_EQ(find().tokenizer, folder_ / "text/tokenizer.json") << "its folder will do";
}

TEST_F(Apart, a_folder_has_a_name_however_it_is_written) {
  EXPECT_EQ(folder_name(folder_ / "lm"), "lm");
  EXPECT_EQ(folder_name((folder_ / "lm").string() + "/"), "lm");
  EXPECT_EQ(folder_name(folder_ / "codec/../lm/."), "lm");
  EXPECT_EQ(folder_name("."), fs::current_path().filename());
}

TEST_F(Apart, each_part_stands_over_that_of_the_model_path) {
  folder_.write("all/tokenizer.json", "{}");
  folder_.write("all/gen_config.json", "{}");
  folder_.write("all/HeartMuLa-oss-3B/config.json", "{}");
  folder_.write("all/HeartCodec-oss/config.json", "{}");
  settings_ = {.model_path = folder_ / "all", .codec_path = folder_ / "codec"};
  EXPECT_EQ(find().codec, folder_ / "codec");
  EXPECT_EQ(find().mula, folder_ / "all/HeartMuLa-oss-3B");
  settings_.mula_path = folder_ / "lm";
  EXPECT_EQ(find().mula, folder_ / "lm");
  settings_.tokenizer = folder_.write("alone/tokenizer.json", "{}");
  EXPECT_EQ(find().gen_config, folder_ / "all/gen_config.json") << "for there is none beside the tokenizer";
  settings_.tokenizer = folder_ / "text/tokenizer.json";
  EXPECT_EQ(find().gen_config, folder_ / "text/gen_config.json");
}

TEST_F(Apart, what_is_missing_is_named_with_its_flag) {
  settings_ = {};
  EXPECT_THAT(complaint(), AllOf(HasSubstr("--mula_path"), HasSubstr("--codec_path"), HasSubstr("--tokenizer"),
                                 HasSubstr("gen_config.json"), HasSubstr("--model_path")));
  settings_.tokenizer = folder_.write("alone/tokenizer.json", "{}");
  EXPECT_THAT(complaint(), AllOf(HasSubstr("gen_config.json (beside"), Not(HasSubstr("--tokenizer"))));
}

TEST_F(Apart, what_is_no_model_is_refused_with_the_flag_that_names_it) {
  settings_.mula_path = folder_ / "nowhere";
  EXPECT_THAT(complaint(), AllOf(HasSubstr("--mula_path"), HasSubstr("nowhere"), HasSubstr("no such folder")));
  settings_.mula_path = folder_ / "text";
  EXPECT_THAT(complaint(), AllOf(HasSubstr("--mula_path"), HasSubstr("no config.json")));
  settings_.mula_path = folder_ / "lm";
  settings_.tokenizer = folder_ / "lm/tokenizer.json";
  EXPECT_THAT(complaint(), AllOf(HasSubstr("--tokenizer"), HasSubstr("no such file")));
  settings_ = {.model_path = folder_ / "lm"};
  EXPECT_THAT(complaint(), HasSubstr("the folder above it"));
}

TEST(Checkpoint, everything_that_is_missing_is_named_at_once) {
  const Folder folder({"tokenizer.json", "HeartMuLa-oss-3B"});  // a file is no folder
  const std::string message = error_of(ErrorKind::kUser, [&] { find(folder); });
  EXPECT_THAT(message, AllOf(HasSubstr("HeartCodec-oss/"), HasSubstr("gen_config.json"), HasSubstr("HeartMuLa-oss-3B/"),
                             Not(HasSubstr("tokenizer.json"))));
}

TEST(Checkpoint, the_codec_alone_needs_nothing_else) {
  const Folder folder({"HeartCodec-oss/"});
  EXPECT_EQ(find(folder, "3B", CheckpointParts::kCodec).codec, folder.files / "HeartCodec-oss");
}

TEST(Checkpoint, a_version_is_no_path) {
  const Folder folder({"HeartCodec-oss/"});
  for (const std::string version : {"", "3B/..", "../3B", ".."}) {
    EXPECT_THAT(error_of(ErrorKind::kUser, [&] { find(folder, version); }), HasSubstr("--version"));
  }
}

}  // namespace
}  // namespace heartmula
