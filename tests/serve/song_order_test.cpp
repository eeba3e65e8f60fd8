#include "serve/song_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "serve/route.h"
#include "song/settings.h"

namespace heartmula {
namespace {

using testing::HasSubstr;

std::string refusal(const std::string& body) {
  try {
    parse_song_order(body, Request());
  } catch (const HttpError& error) {
    EXPECT_EQ(error.status(), 400);
    return error.what();
  }
  return {};
}

TEST(SongOrder, takes_what_makes_the_music) {
  const SongOrder order = parse_song_order(
      R"({"lyrics": "[verse]\nla", "tags": "rock", "seed": 18446744073709551615, "temperature": 0.5, "quality": "fast",
          "codec_steps": 3, "songs": 4, "begin": {"song": "abc", "to_ms": 800}})",
      Request());
  EXPECT_EQ(order.request.song.lyrics, "[verse]\nla");
  EXPECT_EQ(order.request.song.seed, UINT64_MAX);
  EXPECT_EQ(order.request.song.temperature, 0.5);
  EXPECT_EQ(order.request.codec.flow.steps, 3);  // over the quality's own
  EXPECT_EQ(order.songs, 4);
  EXPECT_EQ(order.begin->song, "abc");
  EXPECT_EQ(order.begin->to_ms, 800);
}

TEST(SongOrder, what_is_not_said_is_the_servers) {
  Request defaults;
  defaults.codec.windows = WindowScheme::kEarly;
  defaults.song.temperature = 0.7;
  const SongOrder order = parse_song_order(R"({"windows": "reference"})", defaults);
  EXPECT_EQ(order.request.codec.windows, WindowScheme::kReference);
  EXPECT_EQ(order.request.song.temperature, 0.7);
  EXPECT_EQ(order.songs, 1);
  EXPECT_FALSE(order.begin);
}

TEST(SongOrder, a_client_names_no_files_and_no_machine) {
  for (const Setting& setting : settings_table()) {
    const bool is_of_machine = setting.group == SettingGroup::kMachine || setting.group == SettingGroup::kCheckpoint ||
                               setting.group == SettingGroup::kRun;
    if (!setting.type->names_files() && !is_of_machine && setting.name != "save_path") continue;
    if (setting.name == "songs") continue;  // another field of the same name
    EXPECT_THAT(refusal("{\"" + setting.name + "\": \"x\"}"), HasSubstr("unknown setting")) << setting.name;
    EXPECT_FALSE(song_order_schema(Request())["properties"].contains(setting.name)) << setting.name;
  }
}

TEST(SongOrder, refuses_with_one_line_that_names_the_field) {
  const std::pair<const char*, const char*> cases[] = {
      {"[]", "object"},
      {"{", "JSON"},
      {R"({"topk": 0})", "topk"},
      {R"({"topk": "many"})", "topk"},
      {R"({"seed": -2})", "seed"},
      {R"({"songs": 0})", "songs is 0, but must be an integer from 1 to 16"},
      {R"({"songs": 17})", "from 1 to 16"},
      {R"({"songs": 1.5})", "songs"},
      {R"({"begin": "abc"})", "begin"},
      {R"({"begin": {"to_ms": 1}})", "begin.song"},
      {R"({"begin": {"song": "a", "to_ms": -1}})", "to_ms"},
      {R"({"begin": {"song": "a", "at": 1}})", "begin.at"},
      {R"({"sample_format": "f32"})", "s16 or s24"},
      {R"({"lossy": "topk"})", "draft_frames"},
      {R"({"verification": "block"})", "draft_frames"},
      {R"({"min_audio_length_ms": 9, "max_audio_length_ms": 1})", "min_audio_length_ms"},
      {R"({"codec_grid": "0,0.5"})", "codec_grid"},
      {"{\"lyrics\": \"a\\u0000b\"}", "lyrics"},
  };
  for (const auto& [body, expected] : cases) EXPECT_THAT(refusal(body), HasSubstr(expected)) << body;
}

TEST(SongOrder, settings_of_a_request_are_an_order_that_makes_it) {
  const SongOrder order =
      parse_song_order(R"({"lyrics": "la", "tags": "rock", "seed": 7, "codec_steps": 4})", Request());
  const nlohmann::json settings = song_settings(order.request);
  EXPECT_EQ(song_settings(song_order(settings, Request()).request), settings);
  for (const auto& item : settings.items()) {
    EXPECT_TRUE(song_order_schema(Request())["properties"].contains(item.key())) << item.key();
  }
}

}  // namespace
}  // namespace heartmula
