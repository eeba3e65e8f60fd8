#include "text/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/testing.h"
#include "text/unicode.h"

namespace heartmula {
namespace {

using testing::EndsWith;
using testing::StartsWith;

const std::filesystem::path kTiny = HEARTMULA_TEST_DATA "/tiny1";

class PromptTest : public testing::Test {
 protected:
  Prompt prompt(std::string_view tags, std::string_view lyrics) const {
    return make_prompt(tokenizer_, config_, tags, lyrics);
  }
  /// The text between beginning and end of one half.
  std::string text_of(std::vector<int32_t> ids) const {
    EXPECT_EQ(ids.front(), config_.text_bos_id);
    EXPECT_EQ(ids.back(), config_.text_eos_id);
    std::string text;
    for (size_t i = 1; i + 1 < ids.size(); ++i) text += tokenizer_.piece(ids[i]);
    return text;
  }
  std::string tags_of(const Prompt& p) const {
    return text_of({p.text_ids.begin(), p.text_ids.begin() + p.reference_index});
  }
  std::string lyrics_of(const Prompt& p) const {
    return text_of({p.text_ids.begin() + p.reference_index + 1, p.text_ids.end()});
  }

  const Tokenizer tokenizer_ = Tokenizer::open(kTiny / "tokenizer.json");
  const GenConfig config_ = GenConfig::open(kTiny / "gen_config.json");
};

TEST_F(PromptTest, is_tags_a_place_for_the_reference_and_lyrics) {
  const Prompt p = prompt("piano,happy", "[Verse]\nLa");
  EXPECT_EQ(tags_of(p), "<tag>piano,happy</tag>");
  EXPECT_EQ(p.text_ids[static_cast<size_t>(p.reference_index)], 0);
  EXPECT_EQ(lyrics_of(p), "[verse]\nla");
}

TEST_F(PromptTest, tags_are_wrapped_once_and_never_stripped) {
  EXPECT_EQ(tags_of(prompt("<tag>a</tag>", "")), "<tag>a</tag>");
  EXPECT_EQ(tags_of(prompt("<TAG>a</Tag>", "")), "<tag>a</tag>");
  EXPECT_EQ(tags_of(prompt("<tag>a", "")), "<tag>a</tag>");
  EXPECT_EQ(tags_of(prompt("a</tag>\n", "")), "<tag>a</tag>\n</tag>");  // a file's last line end
  EXPECT_EQ(tags_of(prompt(" a ", "")), "<tag> a </tag>");
  EXPECT_EQ(tags_of(prompt("", "")), "<tag></tag>");
}

TEST_F(PromptTest, empty_lyrics_are_a_beginning_and_an_end) {
  const Prompt p = prompt("a", "");
  EXPECT_EQ(std::vector<int32_t>(p.text_ids.begin() + p.reference_index + 1, p.text_ids.end()),
            (std::vector<int32_t>{config_.text_bos_id, config_.text_eos_id}));
}

TEST_F(PromptTest, a_beginning_and_an_end_that_are_there_are_not_doubled) {
  const std::string framed = tokenizer_.piece(config_.text_bos_id) + "la" + tokenizer_.piece(config_.text_eos_id);
  EXPECT_EQ(prompt("a", framed).text_ids, prompt("a", "la").text_ids);
}

TEST_F(PromptTest, invalid_utf8_is_told) {
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { prompt("a\x80", ""); }),
              testing::AllOf(StartsWith("tags"), EndsWith("byte 1")));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { prompt("", "\xf4\x90\x80\x80"); }),
              testing::AllOf(StartsWith("lyrics"), EndsWith("byte 0")));
}

TEST(LowerCase, is_that_of_python) {
  EXPECT_EQ(lower_case("LA la ÀÉÎ ÅÆØ ЖЯ ΑΩ"), "la la àéî åæø жя αω");
  EXPECT_EQ(lower_case("ΣΊΣΥΦΟΣ ΟΔΟΣ. Σ"), "σίσυφος οδος. σ");
  EXPECT_EQ(lower_case("\u0130I"), "i\u0307i");  // not as in Turkish
  EXPECT_EQ(lower_case("STRASSE \u1E9E"), "strasse ß");
  EXPECT_EQ(lower_case("\U00010400 \U0001F3B5 你好"), "\U00010428 \U0001F3B5 你好");
  EXPECT_EQ(lower_case(""), "");
  EXPECT_EQ(lower_case(std::string("A\0B", 3)), std::string("a\0b", 3));
}

TEST(Utf8, what_is_ill_formed_is_found_where_it_begins) {
  check_utf8("x", "a\u00e9\u20ac\U0001F3B5\xf4\x8f\xbf\xbf");
  for (const std::string bytes :
       {"\x80", "\xc0\xaf", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80",
        "\xf8\x88\x80\x80\x80", "\xff", "\xc3", "\xe2\x82", "\xf0\x9f\x8e"}) {
    EXPECT_THAT(error_of(ErrorKind::kUser, [&] { check_utf8("x", "a\u00e9" + bytes + "b"); }), EndsWith("byte 3"));
  }
}

}  // namespace
}  // namespace heartmula
