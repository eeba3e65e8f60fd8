// Nothing that somebody needs is written over.
#include "song/outputs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/testing.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class Outputs : public testing::Test {
 protected:
  Outputs() {
    request_.output.save_path = folder_ / "song.wav";
    checkpoint_.tokenizer = folder_.write("ckpt/tokenizer.json", "{}");
    checkpoint_.gen_config = folder_.write("ckpt/gen_config.json", "{}");
    folder_.write("ckpt/lm/config.json", "{}");
    folder_.write("ckpt/codec/model.safetensors", "");
    checkpoint_.mula = folder_ / "ckpt/lm";
    checkpoint_.codec = folder_ / "ckpt/codec";
  }
  std::string refused(const std::vector<NamedPath>& inputs = {}) const {
    return error_of(ErrorKind::kUser, [&] { check_outputs(request_, inputs, checkpoint_); });
  }

  TemporaryFolder folder_;
  Request request_;
  CheckpointPaths checkpoint_;
};

TEST_F(Outputs, different_files_are_taken) {
  request_.output.save_codes = folder_ / "codes";
  request_.run.profile = folder_ / "trace.json";
  request_.run.spectrogram = folder_ / "song.png";
  request_.song.load_codes = folder_.write("old", "");
  check_outputs(request_, {{"--lyrics", folder_.write("lyrics.txt", "la")}}, checkpoint_);
}

TEST_F(Outputs, two_that_are_one_file_are_refused) {
  for (std::string* other : {&request_.output.save_codes, &request_.run.profile, &request_.run.spectrogram}) {
    for (const std::string name : {"song.wav", "./song.wav", "song.wav.json"}) {
      *other = folder_.path() / name;
      EXPECT_THAT(refused(), AllOf(HasSubstr("--save_path"), HasSubstr("same file"))) << name;
    }
    other->clear();
  }
  request_.run.profile = request_.run.spectrogram = folder_ / "both";
  EXPECT_THAT(refused(), AllOf(HasSubstr("--profile"), HasSubstr("--spectrogram")));
}

TEST_F(Outputs, nothing_that_is_read_is_written) {
  const fs::path text = folder_.write("song.wav.json", "la");
  EXPECT_THAT(refused({{"--lyrics", text}}), HasSubstr("--lyrics"));
  request_.song.load_codes = folder_.write("kept", "");
  request_.output.save_codes = folder_ / "kept";
  EXPECT_THAT(refused(), AllOf(HasSubstr("--load_codes"), HasSubstr("--save_codes")));
  request_.song.load_codes = folder_.write("song.wav.codes.safetensors", "");
  request_.output.save_codes = request_.song.load_codes;
  EXPECT_THAT(refused(), AllOf(HasSubstr("--load_codes"), HasSubstr("--save_codes")));
  request_.song.load_codes.clear();
  request_.song.muq_embed = request_.output.save_codes = folder_.write("style.npy", "");
  EXPECT_THAT(refused(), AllOf(HasSubstr("--muq_embed"), HasSubstr("--save_codes")));
  request_.song.muq_embed.clear();
  request_.checkpoint.lora = {folder_ / "adapter"};
  request_.output.save_codes = folder_.write("adapter/adapter_model.safetensors", "");
  EXPECT_THAT(refused(), AllOf(HasSubstr("--lora"), HasSubstr("--save_codes")));
}

TEST_F(Outputs, no_file_of_the_checkpoint_is_written) {
  for (const std::string name : {"tokenizer.json", "gen_config.json", "lm/config.json", "codec/model.safetensors"}) {
    request_.output.save_codes = folder_ / ("ckpt/" + name);
    EXPECT_THAT(refused(), AllOf(HasSubstr("--save_codes"), HasSubstr("checkpoint"))) << name;
    fs::remove(folder_ / "link");
    fs::create_symlink(folder_ / ("ckpt/" + name), folder_ / "link");
    request_.output.save_codes = folder_ / "link";
    EXPECT_THAT(refused(), HasSubstr("checkpoint")) << name;
  }
}

TEST_F(Outputs, nothing_else_in_the_folder_of_the_checkpoint_is_written_but_songs) {
  request_.checkpoint.model_path = folder_ / "ckpt";
  folder_.write("ckpt/other version/config.json", "{}");
  const fs::path model = folder_.write("ckpt/other version/model.safetensors", "");
  for (const fs::path& path : {model, folder_.write("ckpt/README.md", ""), folder_.write("ckpt/notes.json", "")}) {
    request_.output.save_codes = path;
    EXPECT_THAT(refused(), HasSubstr("checkpoint")) << path;
  }
  checkpoint_.mula.clear();  // as `decode` knows it
  checkpoint_.tokenizer.clear();
  request_.output.save_codes = folder_ / "ckpt/tokenizer.json";
  EXPECT_THAT(refused(), HasSubstr("tokenizer.json"));
  request_.output.save_codes.clear();
  request_.output.save_path = folder_.write("ckpt/song.wav", "");
  folder_.write("ckpt/song.wav.json", "{}");
  folder_.write("ckpt/song.wav.codes.safetensors", "");
  check_outputs(request_, {}, checkpoint_);
}

TEST_F(Outputs, a_name_that_is_taken_gets_a_number) {
  const fs::path song = folder_ / "song.flac";
  EXPECT_EQ(unused_path(song.string()), song.string());
  folder_.write("song.flac", "");
  EXPECT_EQ(unused_path(song.string()), (folder_ / "song-1.flac").string());
  folder_.write("song-1.flac", "");
  EXPECT_EQ(unused_path(song.string()), (folder_ / "song-2.flac").string());
}

TEST_F(Outputs, a_name_that_another_song_is_written_to_is_taken) {
  const std::string song = folder_ / "song.flac";
  const ClaimedPath first = claim_unused_path(song);
  EXPECT_EQ(first.path, song);
  folder_.write("song-1.flac", "");
  const ClaimedPath second = claim_unused_path(song);
  EXPECT_EQ(second.path, (folder_ / "song-2.flac").string());
  EXPECT_EQ(claim_unused_path(song).path, (folder_ / "song-3.flac").string());
  EXPECT_EQ(claim_unused_path(song).path, (folder_ / "song-3.flac").string()) << "it was free again";
}

TEST_F(Outputs, codes_of_an_earlier_run_are_set_aside_and_those_that_are_loaded_stay) {
  const fs::path codes = folder_ / "song.wav.codes.safetensors";
  EXPECT_EQ(prepare_codes_path(request_, false, {}), codes);
  folder_.write("song.wav.codes.safetensors", "rescued");
  EXPECT_EQ(prepare_codes_path(request_, false, {codes, true}), codes);  // it goes on with them
  EXPECT_TRUE(fs::exists(codes));

  EXPECT_EQ(prepare_codes_path(request_, false, {codes, false}), folder_ / "song.wav.codes.1.safetensors");
  EXPECT_TRUE(fs::exists(codes));

  EXPECT_EQ(prepare_codes_path(request_, false, {}), codes);
  EXPECT_FALSE(fs::exists(codes));
  EXPECT_TRUE(fs::exists(folder_ / "song.wav.codes.1.safetensors"));
}

TEST(ManyOutputs, have_numbers_or_what_the_pattern_says) {
  EXPECT_EQ(numbered_path("a/song.tar.flac", 3, 7), "a/song.tar-3.flac");
  EXPECT_EQ(numbered_path("song", 12, 7), "song-12");
  EXPECT_EQ(numbered_path("{n}/{seed}-{n}.wav", 3, 18446744073709551615u), "3/18446744073709551615-3.wav");
  EXPECT_EQ(numbered_path("{seed}.wav", 3, 7), "7.wav");
  EXPECT_EQ(numbered_path("{}.wav", 3, 7), "{}-3.wav");
}

TEST(ManyOutputs, are_different) {
  const TemporaryFolder folder;
  std::filesystem::create_directory_symlink(folder.path(), folder / "here");
  const auto request = [&](const std::string& song) {
    Request made;
    made.output.save_path = folder / song;
    return made;
  };
  Request a = request("a.wav");
  Request b = request("b.wav");
  a.run.profile = b.run.profile = folder / "profile";  // is of all songs
  EXPECT_NO_THROW(check_different_outputs({&a, &b}));
  Request same = request("here/a.wav");
  EXPECT_THAT(error_of(ErrorKind::kUser,
                       [&] {
                         check_different_outputs({&a, &b, &same});
                       }),
              AllOf(HasSubstr("songs 1 and 3"), HasSubstr("a.wav")));
  b.output.save_codes = folder / "a.wav.json";
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { check_different_outputs({&a, &b}); }), HasSubstr("--save_codes"));
  b.output.save_codes = folder.write("codes", "x");
  a.song.load_codes = folder / "here/codes";
  EXPECT_THAT(error_of(ErrorKind::kUser,
                       [&] {
                         check_different_outputs({&a, &b});
                       }),
              AllOf(HasSubstr("song 1 goes on from"), HasSubstr("song 2")));
}

}  // namespace
}  // namespace heartmula
