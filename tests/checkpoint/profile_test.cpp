// A trace is one JSON with every operation and every part of the work, and never in the way of the song.
#include "checkpoint/profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/testing.h"
#include "heartmula/error.h"
#include "song/song_file.h"

namespace heartmula {
namespace {

Request short_song(const std::filesystem::path& save_path) {
  Request request;
  request.checkpoint.model_path = HEARTMULA_TEST_DATA "/tiny1";
  request.song.lyrics = "la";
  request.song.tags = "piano";
  request.song.seed = 1;
  request.song.max_audio_length_ms = 240;
  request.codec.flow.steps = 2;
  request.machine.threads = 1;
  request.output.save_path = save_path.string();
  return request;
}

TEST(Profile, has_a_span_for_every_operation_frame_and_step) {
  const TemporaryFolder folder;
  nlohmann::json song;
  {
    Profile profile(folder / "trace.json");
    song = make_song_file(short_song(folder / "song.wav"), {.profile = &profile}, nullptr);
  }
  std::ifstream file(folder / "trace.json");
  const nlohmann::json trace = nlohmann::json::parse(file);
  std::map<std::string, int64_t> spans;
  double last_end = 0;
  nlohmann::json limits;
  for (const nlohmann::json& event : trace.at("traceEvents")) {
    if (event.at("name") == "device" && event.at("tid") == 1) limits = event.at("args");
    if (event.at("ph") != "X") continue;
    const std::string name = event.at("name");
    ++spans[name.substr(0, name.find(' '))];
    EXPECT_GE(event.at("dur"), 0);
    last_end = std::max(last_end, event.at("ts").get<double>() + event.at("dur").get<double>());
    if (name != "linear_silu_gate") continue;
    const nlohmann::json& args = event.at("args");
    const char* peak = args.at("dtype") == "BF16" ? "bf16_gflop_s" : "f32_gflop_s";
    const double limit = std::max(args.at("stored_mb").get<double>() * 1e-3 / limits.at("read_gb_s").get<double>(),
                                  args.at("mflop").get<double>() * 1e-3 / limits.at(peak).get<double>());
    EXPECT_NEAR(args.at("fraction_of_limit").get<double>(), limit / (event.at("dur").get<double>() * 1e-6),
                0.01 * args.at("fraction_of_limit").get<double>() + 0.01);
  }
  const int64_t frames = song.at("result").at("frames");
  EXPECT_THAT(limits.at("name").get<std::string>(), testing::StartsWith("cpu ("));
  EXPECT_EQ(spans["frame"], frames);
  EXPECT_EQ(spans["codec"], 2 + 1);
  EXPECT_GT(spans["attend"], 0);
  EXPECT_EQ(spans["sample"], kCodebooks * frames);
  EXPECT_EQ(spans["guide"], 2);
  EXPECT_GT(spans["conv1d"], 0);
  EXPECT_LE(last_end * 1e-6, song.at("result").at("seconds").at("total").get<double>() + 1);
}

TEST(Profile, a_place_that_cannot_be_written_is_an_error) {
  EXPECT_THROW(Profile("/no/such/folder/trace.json"), Error);
}

TEST(Profile, a_full_disk_does_not_stop_the_song) {
  const TemporaryFolder folder;
  Profile profile("/dev/full");
  make_song_file(short_song(folder / "song.wav"), {.profile = &profile}, nullptr);
  EXPECT_TRUE(std::filesystem::exists(folder / "song.wav"));
}

}  // namespace
}  // namespace heartmula
