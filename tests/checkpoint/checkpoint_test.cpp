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

std::string found(const std::vector<std::string>& folders, const std::string& version = "3B") {
  Folder folder(folders);
  folder.files.write("tokenizer.json", "{}");
  folder.files.write("gen_config.json", "{}");
  const CheckpointPaths paths = find_checkpoint(folder.files.path(), version, CheckpointParts::kAll);
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
  EXPECT_THAT(
      error_of(ErrorKind::kUser, [&] { find_checkpoint(folder.files.path(), "3B", CheckpointParts::kAll); }),
      AllOf(HasSubstr("HeartCodec-oss/, gen_config.json missing"), HasSubstr("gen_config.json.part says that")));
}

TEST(Checkpoint, two_that_could_be_meant_are_both_named) {
  EXPECT_THAT(error_of(ErrorKind::kUser,
                       [] {
                         found({"HeartMuLa-oss-3B-b/", "HeartMuLa-RL-oss-3B/", "HeartCodec-oss/"});
                       }),
              AllOf(HasSubstr("HeartMuLa-RL-oss-3B, HeartMuLa-oss-3B-b"), HasSubstr("Rename")));
}

TEST(Checkpoint, everything_that_is_missing_is_named_at_once) {
  const Folder folder({"tokenizer.json", "HeartMuLa-oss-3B"});  // a file is no folder
  const std::string message =
      error_of(ErrorKind::kUser, [&] { find_checkpoint(folder.files.path(), "3B", CheckpointParts::kAll); });
  EXPECT_THAT(message, AllOf(HasSubstr("HeartCodec-oss/"), HasSubstr("gen_config.json"), HasSubstr("HeartMuLa-oss-3B/"),
                             Not(HasSubstr("tokenizer.json"))));
}

TEST(Checkpoint, the_codec_alone_needs_nothing_else) {
  const Folder folder({"HeartCodec-oss/"});
  EXPECT_EQ(find_checkpoint(folder.files.path(), "3B", CheckpointParts::kCodec).codec, folder.files / "HeartCodec-oss");
}

TEST(Checkpoint, a_version_is_no_path) {
  const Folder folder({"HeartCodec-oss/"});
  for (const std::string version : {"", "3B/..", "../3B"}) {
    EXPECT_THAT(
        error_of(ErrorKind::kUser, [&] { find_checkpoint(folder.files.path(), version, CheckpointParts::kAll); }),
        HasSubstr("--version"));
  }
}

}  // namespace
}  // namespace heartmula
