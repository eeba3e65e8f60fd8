#include "cli/suggest.h"

#include <gtest/gtest.h>

#include <vector>

namespace heartmula {
namespace {

const std::vector<std::string> kFlags = {
    "--model_path",  "--model-path", "--save_path", "--save-path",   "--max_audio_length_ms",
    "--topk",        "--seed",       "--cfg_scale", "--temperature", "--threads",
    "--codec_steps", "--lyrics",     "--tags",      "--help",        "--mula_dtype"};

std::string meant(std::string_view word) {
  return suggestion(word, kFlags);
}

TEST(Suggest, what_other_programs_call_it) {
  EXPECT_EQ(meant("--output"), "--save_path");
  EXPECT_EQ(meant("-o"), "--save_path");
  EXPECT_EQ(meant("--duration"), "--max_audio_length_ms");
  EXPECT_EQ(meant("--duration-seconds"), "--max_audio_length_ms");
  EXPECT_EQ(meant("--top_k"), "--topk");
  EXPECT_EQ(meant("--top-k=40"), "--topk");
  EXPECT_EQ(meant("--temp"), "--temperature");
  EXPECT_EQ(meant("--cfg"), "--cfg_scale");
  EXPECT_EQ(meant("--num_inference_steps"), "--codec_steps");
  EXPECT_EQ(meant("-t"), "--threads");
}

TEST(Suggest, slips_of_the_finger) {
  EXPECT_EQ(meant("--sede"), "--seed");
  EXPECT_EQ(meant("--temprature"), "--temperature");
  EXPECT_EQ(meant("--model_paht"), "--model_path");
  EXPECT_EQ(meant("--savepath"), "--save_path");
  EXPECT_EQ(meant("--Seed"), "--seed");
  EXPECT_EQ(meant("-seed"), "--seed");
  EXPECT_EQ(meant("--max_audio_length"), "--max_audio_length_ms");
}

TEST(Suggest, nothing_where_nothing_is_near) {
  for (const char* word : {"--xyzzy", "--", "-", "", "-z", "--cat"}) EXPECT_EQ(meant(word), "") << word;
  EXPECT_EQ(suggestion("--output", std::vector<std::string>{"--json"}), "") << "an alias of a flag that is not there";
  EXPECT_EQ(suggestion("--seed", {}), "");
}

}  // namespace
}  // namespace heartmula
