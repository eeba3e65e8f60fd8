#include "base/json_fields.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

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
  EXPECT_THAT(parse_error_of(""), StartsWith("config.json: not valid JSON"));
  EXPECT_THAT(parse_error_of("{} {}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(parse_error_of("{\"a\": \"\xff\"}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(parse_error_of("[1]"), HasSubstr("must hold one JSON object"));
  EXPECT_THAT(parse_error_of(R"({"a": 1e999})"), HasSubstr("too large"));
  EXPECT_EQ(parse_error_of(R"({"o": {"a": 1, "b": 2, "a": 3}})"), "config.json: has two entries \"a\"");
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
  EXPECT_THAT(message([&] { fields.integer("big", 0, 9); }), HasSubstr("must be from 0 to 9"));
  EXPECT_THAT(message([&] { fields.integer("half", 0, 9); }), HasSubstr("must be an integer"));
  EXPECT_THAT(message([&] { fields.number("name", 0, 9); }), HasSubstr("must be a number"));
  EXPECT_THAT(message([&] { fields.text("n"); }), HasSubstr("must be a string"));
  EXPECT_THAT(message([&] { fields.integers_or("list", 3, 0, 9, {}); }), HasSubstr("a list of 3 integers"));
  EXPECT_THAT(message([&] { fields.object("n"); }), HasSubstr("must be an object"));
  EXPECT_EQ(message([&] { fields.object("inner").integer("n", 0, 1); }),
            "config.json: inner.n must be an integer, not \"seven\"");
}

}  // namespace
}  // namespace heartmula
