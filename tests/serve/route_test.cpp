#include "serve/route.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace heartmula {
namespace {

using testing::HasSubstr;
using Parts = std::map<std::string, std::string>;

TEST(Route, paths_match_part_by_part) {
  EXPECT_EQ(match_path("/", "/"), Parts());
  EXPECT_EQ(match_path("/v1/songs", "/v1/songs"), Parts());
  EXPECT_EQ(match_path("/v1/songs/{id}/audio", "/v1/songs/abc/audio"), (Parts{{"id", "abc"}}));
  for (const char* other : {"", "/v1", "/v1/songs/", "/v1/songs//audio", "/v1/songs/abc", "/v1/songs/abc/audio/",
                            "/v1/songs/a/b/audio", "v1/songs/abc/audio"}) {
    EXPECT_FALSE(match_path("/v1/songs/{id}/audio", other)) << other;
  }
  EXPECT_FALSE(match_path("/v1/songs", "/v1/songs/"));
  EXPECT_FALSE(match_path("/{id}", "/" + std::string(201, 'a')));
}

class Query : public testing::Test {
 protected:
  Route route{
      .method = "GET",
      .path = "/",
      .name = "test",
      .help = {},
      .query = {{.name = "limit", .schema = {{"type", "integer"}, {"minimum", 1}, {"maximum", 200}}, .help = {}},
                {.name = "favourite", .schema = {{"type", "boolean"}}, .help = {}},
                {.name = "format", .schema = {{"type", "string"}, {"enum", {"wav", "flac"}}}, .help = {}},
                {.name = "search", .schema = {{"type", "string"}, {"maxLength", 3}}, .help = {}}}};

  std::string refusal(const std::string& name, const std::string& value) {
    try {
      check_query(route, {{name, value}});
    } catch (const HttpError& error) {
      EXPECT_EQ(error.status(), 400);
      return error.what();
    }
    return {};
  }
};

TEST_F(Query, values_are_what_their_schema_says) {
  EXPECT_EQ(refusal("limit", "200"), "");
  EXPECT_EQ(refusal("favourite", "false"), "");
  EXPECT_EQ(refusal("format", "flac"), "");
  EXPECT_EQ(refusal("search", "abc"), "");
  EXPECT_EQ(refusal("unknown", "anything"), "");
  for (const char* wrong : {"0", "201", "-1", "1.5", "x", "", "1 ", "99999999999999999999"}) {
    EXPECT_THAT(refusal("limit", wrong), HasSubstr("limit")) << wrong;
  }
  EXPECT_THAT(refusal("favourite", "yes"), HasSubstr("true or false"));
  EXPECT_THAT(refusal("format", "mp3"), HasSubstr("wav, flac"));
  EXPECT_THAT(refusal("search", "abcd"), HasSubstr("too long"));
}

TEST_F(Query, says_what_is_missing) {
  route.query[0].required = true;
  EXPECT_THROW(check_query(route, {}), HttpError);
  EXPECT_NO_THROW(check_query(route, {{"limit", "3"}}));
}

}  // namespace
}  // namespace heartmula
