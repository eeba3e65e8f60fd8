// heartlib's command lines, pasted (examples/run_music_generation.py and its flags).
#include "cli/testing.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

/// A folder as heartlib's: ckpt/, assets/.
class Heartlib : public testing::Test {
 protected:
  Heartlib() {
    fs::create_symlink(kTinyCheckpoint, folder_ / "ckpt");
    folder_.write("assets/lyrics.txt", "[Verse]\nThe sun creeps in\n");
    folder_.write("assets/tags.txt", "piano,happy,wedding");
  }
  /// A song that is there already would not be written over.
  Finished paste(const std::string& flags) const {
    fs::remove(folder_ / "assets/output.mp3");
    return run_script("heartmula generate " + flags + " --max_audio_length_ms=400 --codec_steps 1",
                      folder_.path().string());
  }
  json request(const std::string& song = "assets/output.mp3") const {
    return json_of(folder_ / (song + ".json"))["request"];
  }

  TemporaryFolder folder_;
};

TEST_F(Heartlib, the_shortest_command_line_works) {
  const Finished finished = paste("--model_path=./ckpt --version=\"3B\"");
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_EQ(request()["tags"], "piano,happy,wedding");
  EXPECT_EQ(request()["topk"], 50);
  EXPECT_EQ(request()["temperature"], 1.0);
  EXPECT_EQ(request()["cfg_scale"], 1.5);
  EXPECT_EQ(request()["mula_dtype"], "bfloat16");
  EXPECT_EQ(request()["codec_dtype"], "float32");
  EXPECT_EQ(request()["lazy_load"], false);
}

TEST_F(Heartlib, every_flag_works_in_both_spellings) {
  const std::string flags =
      "--model_path ./ckpt --version 3B --lyrics ./assets/lyrics.txt --tags ./assets/tags.txt --save_path "
      "./assets/song.wav --max_audio_length_ms 240000 --topk 20 --temperature 0.9 --cfg_scale 2 --mula_device cpu "
      "--codec_device cpu --mula_dtype float32 --codec_dtype bfloat16 --lazy_load true";
  std::string dashed = flags;
  std::replace(dashed.begin(), dashed.end(), '_', '-');
  for (const std::string& line : {flags, dashed}) {
    const Finished finished = paste(line);
    EXPECT_EQ(finished.exit_code, 0) << finished.err;
    const json request = this->request("assets/song.wav");
    EXPECT_EQ(request["topk"], 20);
    EXPECT_EQ(request["temperature"], 0.9);
    EXPECT_EQ(request["cfg_scale"], 2.0);
    EXPECT_EQ(request["mula_dtype"], "float32");
    EXPECT_EQ(request["codec_dtype"], "bfloat16");
    EXPECT_EQ(request["lazy_load"], true);
    fs::remove(folder_ / "assets/song.wav");
  }
}

TEST_F(Heartlib, texts_may_stand_on_the_command_line) {
  const Finished finished = paste("--model_path=./ckpt --tags=\"Piano,Happy\" --lyrics=$'[Verse]\\nLa la'");
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_EQ(request()["tags"], "Piano,Happy");
  EXPECT_EQ(request()["lyrics"], "[Verse]\nLa la");
}

TEST_F(Heartlib, words_for_yes_and_no_are_those_of_heartlib) {
  for (const std::string word : {"yes", "Y", "true", "T", "1"}) {
    EXPECT_EQ(paste("--model_path=./ckpt --lazy_load=" + word).exit_code, 0);
    EXPECT_EQ(request()["lazy_load"], true) << word;
  }
  for (const std::string word : {"no", "N", "false", "F", "0"}) {
    EXPECT_EQ(paste("--model_path=./ckpt --lazy_load " + word).exit_code, 0);
    EXPECT_EQ(request()["lazy_load"], false) << word;
  }
}

TEST_F(Heartlib, devices_that_this_build_has_not_are_refused_with_those_that_it_has) {
  for (const std::string flag : {"--mula_device", "--codec_device"}) {
    const Finished finished = paste("--model_path=./ckpt " + flag + " cuda");
    EXPECT_EQ(finished.exit_code, 2);
    EXPECT_THAT(complaint(finished),
                AllOf(HasSubstr(flag + " cuda"), AnyOf(HasSubstr("built without CUDA"), HasSubstr("no NVIDIA")),
                      HasSubstr("device cpu")));
  }
  EXPECT_FALSE(fs::exists(folder_ / "assets/output.mp3"));
}

TEST_F(Heartlib, weights_in_fp16_become_bf16_with_a_note) {
  for (const std::string name : {"fp16", "float16"}) {
    const Finished finished = paste("--model_path=./ckpt --mula_dtype " + name + " --codec_dtype " + name);
    EXPECT_EQ(finished.exit_code, 0) << finished.err;
    EXPECT_THAT(finished.err,
                AllOf(HasSubstr("--mula_dtype " + name), HasSubstr("--codec_dtype " + name), HasSubstr("bf16")));
    EXPECT_EQ(request()["mula_dtype"], "bfloat16");
    EXPECT_EQ(request()["codec_dtype"], "bfloat16");
  }
  EXPECT_THAT(paste("--model_path=./ckpt --mula_dtype bf16").err, Not(HasSubstr("warning: --")));
}

TEST_F(Heartlib, the_last_of_repeated_flags_counts) {
  EXPECT_EQ(paste("--model_path=./nowhere --topk 3 --topk 4 --model_path ./ckpt").exit_code, 0);
  EXPECT_EQ(request()["topk"], 4);
}

}  // namespace
}  // namespace heartmula
