#include "base/json_fields.h"

#include <gmock/gmock.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <array>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/testing.h"

namespace heartmula {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string parse_error_of(std::string_view text) {
  return error_of(ErrorKind::kUser, [&] { parse_json_object(text, "config.json"); });
}

TEST(ParseJsonObject, refuses_what_is_not_one_strict_object) {
  EXPECT_EQ(parse_json_object(R"( {"a": {"b": 1}, "c": {"b": 2}} )", "x")["c"]["b"], 2);
  EXPECT_EQ(parse_error_of(R"({"a": 1,})"), "config.json: not valid JSON at byte 9");
  EXPECT_THAT(parse_error_of(""), StartsWith("config.json: is empty, not JSON"));
  EXPECT_THAT(parse_error_of(R"({"a": 1, "b")"),
              StartsWith("config.json: not valid JSON: ends at byte 12 in the middle"));
  EXPECT_THAT(parse_error_of("<!doctype html>"), StartsWith("config.json: is a web page (HTML), not JSON"));
  EXPECT_THAT(parse_error_of("{} {}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(parse_error_of("{\"a\": \"\xff\"}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(parse_error_of("[1]"), HasSubstr("must hold one JSON object"));
  EXPECT_THAT(parse_error_of(R"({"a": 1e999})"), HasSubstr("too large"));
  EXPECT_EQ(parse_error_of(R"({"o": {"a": 1, "b": 2, "a": 3}})"), "config.json: has two entries \"a\"");
  EXPECT_EQ(parse_error_of(R"({"b\ne": 1, "b\ne": 2})"), R"(config.json: has two entries "b\x0ae")");
  EXPECT_THAT(parse_error_of(R"({"a":)" + std::string(100'000, '[')), HasSubstr("levels deep"));
}

TEST(JsonFields, checks_every_field) {
  const nlohmann::json object = parse_json_object(
      R"({"n": 7, "big": 18446744073709551615, "half": 0.5, "name": "x", "list": [1, 2], "inner": {"n": "seven"}})",
      "c");
  const JsonFields fields(object, "config.json");
  EXPECT_EQ(fields.integer("n", 0, 7), 7);
  EXPECT_EQ(fields.integer_or("none", 0, 7, 5), 5);
  EXPECT_EQ(fields.number("half", 0, 1), 0.5);
  EXPECT_EQ(fields.text("name"), "x");
  EXPECT_EQ(fields.integers_or("list", 2, 0, 9, {}), (std::vector<int64_t>{1, 2}));

  const auto message = [](const auto& call) { return error_of(ErrorKind::kUser, call); };
  EXPECT_EQ(message([&] { fields.integer("none", 0, 1); }), "config.json: none is missing");
  EXPECT_EQ(message([&] { fields.integer("n", 8, 9); }), "config.json: n is 7, but must be from 8 to 9");
  EXPECT_EQ(message([&] { fields.integer("n", 8, 8); }), "config.json: n is 7, but must be 8");
  EXPECT_EQ(message([&] { fields.number("half", 1, 1); }), "config.json: half is 0.5, but must be 1");
  EXPECT_THAT(message([&] { fields.integer("big", 0, 9); }), HasSubstr("must be from 0 to 9"));
  EXPECT_THAT(message([&] { fields.integer("half", 0, 9); }), HasSubstr("must be an integer"));
  EXPECT_THAT(message([&] { fields.number("name", 0, 9); }), HasSubstr("must be a number"));
  EXPECT_THAT(message([&] { fields.text("n"); }), HasSubstr("must be a string"));
  EXPECT_THAT(message([&] { fields.integers_or("list", 3, 0, 9, {}); }), HasSubstr("a list of 3 integers"));
  EXPECT_THAT(message([&] { fields.object("n"); }), HasSubstr("must be an object"));
  EXPECT_EQ(message([&] { fields.object("inner").integer("n", 0, 1); }),
            "config.json: inner.n must be an integer, not \"seven\"");
}

TEST(JsonFields, some_fields_may_have_one_value_only) {
  const nlohmann::json object = {{"causal", false}};
  const JsonFields fields(object, "config.json", "backbone.");
  fields.require_if_there("causal", false);
  fields.require_if_there("none", true);
  EXPECT_EQ(error_of(ErrorKind::kUser, [&] { fields.require_if_there("causal", true); }),
            "config.json: backbone.causal is false, but this program computes only models in which it is true");
}

TEST(JsonFields, warns_of_what_it_does_not_know) {
  std::ostringstream log;
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_st>(log)));
  spdlog::set_pattern("%v");
  const nlohmann::json object = {{"known", 1}, {"new\nline", 2}, {"rope_scaling", {{"type", "yarn"}}}};
  const JsonFields fields(object, "config.json", "backbone.");
  using namespace std::string_view_literals;
  fields.warn_of_unknown(std::array{"known"sv});
  fields.warn_of_unknown(std::array{"known"sv, "new\nline"sv, "rope_scaling"sv});
  spdlog::set_default_logger(before);
  EXPECT_EQ(log.str(),
            "config.json: backbone.new\\x0aline, backbone.rope_scaling not known to this program, and "
            "ignored: is this another architecture?\n");
}

}  // namespace
}  // namespace heartmula
