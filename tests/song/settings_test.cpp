// One table makes the flags, the JSON, the checks and the README.
#include "song/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <vector>

#include "base/testing.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

/// The complaint about this word after the flag.
std::string complaint(const std::string& name, const std::string& word) {
  const Setting& setting = *find_setting(name);
  Request request;
  request.checkpoint.model_path = "ckpt";
  return error_of(ErrorKind::kUser, [&] {
    setting.type->parse(request, word, setting.flag());
    validate(request);
  });
}

TEST(Settings, names_are_different_and_have_help) {
  std::set<std::string> names;
  for (const Setting& setting : settings_table()) {
    EXPECT_TRUE(names.insert(setting.name).second) << setting.name;
    EXPECT_EQ(find_setting(setting.name), &setting);
    EXPECT_FALSE(setting.help.empty()) << setting.name;
    EXPECT_NE(setting.commands, 0u) << setting.name;
  }
  EXPECT_EQ(find_setting("no such setting"), nullptr);
}

TEST(Settings, the_defaults_are_heartlibs) {
  const json defaults = to_json(Request());
  EXPECT_EQ(defaults["version"], "3B");
  EXPECT_FALSE(defaults.contains("max_audio_length_ms"));
  EXPECT_EQ(defaults["topk"], 50);
  EXPECT_EQ(defaults["temperature"], 1.0);
  EXPECT_EQ(defaults["cfg_scale"], 1.5);
  EXPECT_EQ(defaults["mula_dtype"], "bfloat16");
  EXPECT_EQ(defaults["codec_dtype"], "float32");
  EXPECT_EQ(defaults["lazy_load"], false);
  EXPECT_EQ(defaults["device"], "auto");
  EXPECT_FALSE(defaults.contains("mula_device"));
  EXPECT_FALSE(defaults.contains("seed"));
}

TEST(Settings, what_is_of_one_run_is_not_stored) {
  Request request;
  request.run.progress = "json";
  request.run.json = true;
  request.run.lyrics_text = "la";
  EXPECT_EQ(to_json(request), to_json(Request()));
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { parse_request(R"({"progress": "bar"})", "song.json"); }),
              HasSubstr("unknown setting \"progress\""));
}

TEST(Settings, a_song_carries_what_makes_its_music_and_nothing_of_the_machine) {
  Request request;
  request.checkpoint.model_path = "/home/somebody/ckpt";
  request.song.load_codes = "/home/somebody/old.safetensors";
  request.output.save_path = "/home/somebody/song.flac";
  request.output.save_codes = "/home/somebody/codes";
  request.machine.cpus = "0-3";
  request.machine.threads = 3;
  request.song.lyrics = "la";
  request.song.seed = 7;
  const json music = music_json(request);
  EXPECT_THAT(music.dump(), Not(HasSubstr("somebody")));
  EXPECT_FALSE(music.contains("threads"));
  EXPECT_FALSE(music.contains("cpus"));
  EXPECT_EQ(music["seed"], 7);
  EXPECT_EQ(music["lyrics"], "la");
  EXPECT_EQ(music["codec_steps"], 10);
  EXPECT_EQ(music["load_codes"], "old.safetensors");
  parse_request(music.dump(), "song.flac");
}

TEST(Settings, other_sound_is_the_same_codes) {
  Request a;
  a.song.seed = 1;
  Request b = a;
  b.codec.flow.steps = 3;
  b.machine.threads = 2;
  b.output.save_path = "other.wav";
  EXPECT_TRUE(same_codes(a, b));
  b.song.topk = 3;
  EXPECT_FALSE(same_codes(a, b));
}

// Who guesses is the machine's affair, unless guesses change the song.
TEST(Settings, who_guesses_is_a_part_of_a_lossy_song) {
  Request a;
  a.machine.drafter = "/home/somebody/own.safetensors";
  a.machine.draft_frames = 2;
  Request b = a;
  b.machine.draft_frames = 1;
  EXPECT_TRUE(same_codes(a, b));
  EXPECT_FALSE(music_json(a).contains("draft_frames"));
  for (const bool in_blocks : {false, true}) {
    Request lossy = a;
    if (in_blocks) {
      lossy.song.verification = GuessVerification::kBlock;
    } else {
      lossy.song.lossy = LossyAcceptance::kTopk;
    }
    Request other = lossy;
    other.machine.draft_frames = 1;
    EXPECT_FALSE(same_codes(lossy, other));
    const json music = music_json(lossy);
    EXPECT_EQ(music["drafter"], "own.safetensors");
    EXPECT_EQ(music["draft_frames"], 2);
  }
}

TEST(Settings, a_word_that_is_no_value_is_told_with_its_flag) {
  EXPECT_THAT(complaint("topk", "many"), AllOf(StartsWith("--topk many"), HasSubstr("integer")));
  EXPECT_THAT(complaint("temperature", "0,8"), AllOf(StartsWith("--temperature 0,8"), HasSubstr("write 0.8")));
  EXPECT_THAT(complaint("codec_steps", "1,5"), HasSubstr("integer"));
  EXPECT_THAT(complaint("mula_dtype", "int8"), AllOf(StartsWith("--mula_dtype int8"), HasSubstr("bf16")));
  EXPECT_THAT(complaint("mula_device", "gpu"), AllOf(StartsWith("--mula_device gpu"), HasSubstr("cuda:N")));
  EXPECT_THAT(complaint("cuda_weights", "map"), AllOf(StartsWith("--cuda_weights map"), HasSubstr("copy")));
  EXPECT_THAT(complaint("seed", "-2"), AllOf(StartsWith("--seed -2"), HasSubstr("2^64")));
}

TEST(Settings, who_wants_no_chance_is_told_of_topk_1) {
  EXPECT_THAT(complaint("temperature", "0"), HasSubstr("--topk 1"));
  EXPECT_THAT(complaint("topk", "0"), HasSubstr("1 takes the likeliest"));
}

TEST(Settings, a_seed_of_minus_one_is_random_in_json_too) {
  Request seeded;
  seeded.song.seed = 5;
  EXPECT_EQ(parse_request(R"({"seed": -1})", "x", seeded).request.song.seed, std::nullopt);
  EXPECT_EQ(parse_request(R"({"seed": 18446744073709551615})", "x").request.song.seed, 18446744073709551615u);
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { parse_request(R"({"seed": -2})", "x"); }), StartsWith("x: seed -2"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { parse_request(R"({"seed": 1.5})", "x"); }), StartsWith("x: seed"));
}

TEST(Settings, help_without_markdown) {
  EXPECT_EQ(plain_text("[not](a link"), "not");
  EXPECT_EQ(plain_text("as `many` as [docs/a.md](docs/b.md) says"), "as many as docs/a.md says");
}

/// Whether a value is what the schema of a setting says: what of JSON Schema they use.
bool fits(const json& schema, const json& value) {
  const std::string type = schema.at("type");
  if (type == "integer" ? !value.is_number_integer() : type != (value.is_number() ? "number" : value.type_name())) {
    return false;
  }
  const auto number = [](const json& one) { return one.get<double>(); };
  if (schema.contains("minimum") &&
      (number(value) < number(schema["minimum"]) || number(value) > number(schema["maximum"]))) {
    return false;
  }
  if (type == "array" && !std::ranges::all_of(value, [&](const json& item) { return fits(schema["items"], item); })) {
    return false;
  }
  if (schema.contains("enum") && std::ranges::find(schema["enum"], value) == schema["enum"].end()) return false;
  return !schema.contains("pattern") ||
         std::regex_match(value.get<std::string>(), std::regex(schema["pattern"].get<std::string>()));
}

/// Whether a request that says so is taken.
bool is_taken(const Setting& setting, const json& value) {
  try {
    parse_request(json{{setting.name, value}}.dump(), "song.json");
    return true;
  } catch (const Error&) {
    return false;
  }
}

TEST(Schema, has_every_stored_setting_and_no_other) {
  const json schema = request_schema();
  EXPECT_EQ(schema["type"], "object");
  EXPECT_EQ(schema["additionalProperties"], false);
  for (const Setting& setting : settings_table()) {
    ASSERT_EQ(schema["properties"].contains(setting.name), setting.stored()) << setting.name;
    if (!setting.stored()) continue;
    const json& property = schema["properties"][setting.name];
    EXPECT_EQ(property["description"], plain_text(setting.help));
    EXPECT_EQ(property.contains("x-file"), setting.type->names_files()) << setting.name;
    const json value = setting.type->get(Request());
    EXPECT_EQ(property.contains("default") ? property["default"] : json(), value) << setting.name;
    EXPECT_TRUE(value.is_null() || fits(property, value)) << setting.name << " " << value;
  }
  const json request = to_json(Request());
  for (const auto& item : request.items()) EXPECT_TRUE(schema["properties"].contains(item.key()));
}

TEST(Schema, says_what_a_request_takes) {
  const json schema = request_schema();
  for (const auto& [name, property] : schema["properties"].items()) {
    const Setting& setting = *find_setting(name);
    std::vector<json> values = {-1,
                                0,
                                1,
                                3,
                                50,
                                0.5,
                                1e9,
                                1e300,
                                true,
                                "",
                                "auto",
                                "nonsense",
                                "cuda:1",
                                "cuda:x",
                                "7",
                                "off",
                                "s24",
                                "wav",
                                nullptr,
                                json::array(),
                                json::array({"a"}),
                                json::array({1}),
                                json::object()};
    if (property.contains("minimum")) {
      const json least = property["minimum"];
      const json most = property["maximum"];
      values.insert(values.end(), {least, most});
      if (least.is_number_float()) {
        values.insert(values.end(), {least.get<double>() - 1e-3, most.get<double>() + 1e-3});
      } else {
        values.push_back(least.get<int64_t>() - 1);
        if (most.get<uint64_t>() < UINT64_MAX) values.push_back(most.get<uint64_t>() + 1);
      }
    }
    if (property.contains("enum")) {
      values.insert(values.end(), property["enum"].begin(), property["enum"].end());
    }
    for (const json& value : values) EXPECT_EQ(is_taken(setting, value), fits(property, value)) << name << " " << value;
  }
}

/// README's table of generate's flags is written by the settings; HEARTMULA_WRITE_README=1 in the environment of this
/// test writes it again.
TEST(Settings, the_readme_has_their_table) {
  const std::filesystem::path path = std::filesystem::path(HEARTMULA_SOURCE_FOLDER) / "README.md";
  std::string readme = contents(path);
  const std::string heading = "### `heartmula generate`\n\n| flag | meaning |\n|---|---|\n";
  size_t begin = readme.find(heading);
  ASSERT_NE(begin, std::string::npos);
  begin += heading.size();
  const size_t end = readme.find("\n\n", begin) + 1;
  const std::string rows = markdown_rows(kGenerate);
  if (std::getenv("HEARTMULA_WRITE_README") != nullptr) {
    readme.replace(begin, end - begin, rows);
    std::ofstream(path) << readme;
    return;
  }
  EXPECT_EQ(readme.substr(begin, end - begin), rows);
}

}  // namespace
}  // namespace heartmula
