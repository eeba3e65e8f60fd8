#include "base/message.h"

#include <gmock/gmock.h>

#include <filesystem>

#include "base/error.h"

namespace heartmula {
namespace {

using testing::EndsWith;
using testing::StartsWith;

TEST(Escaped, leaves_text_alone) {
  for (const char* text : {"", "songs/moon.wav", "C:\\song", "月亮 😀 naïve", "a\"b'c"}) EXPECT_EQ(escaped(text), text);
}

TEST(Escaped, shows_what_would_act_on_a_terminal) {
  EXPECT_EQ(escaped("a\nb\r\t\x1b[31m\x7f"), R"(a\x0ab\x0d\x09\x1b[31m\x7f)");
  EXPECT_EQ(escaped(std::string_view("a\0b", 3)), R"(a\x00b)");
  EXPECT_EQ(escaped("\u009b31m \u0085"), R"(\u009b31m \u0085)") << "C1";
  EXPECT_EQ(escaped("\u2028\u2029"), R"(\u2028\u2029)") << "ends of lines";
  EXPECT_EQ(escaped("gnp\u202e.exe\u2066\u200f\u061c\ufeff"), R"(gnp\u202e.exe\u2066\u200f\u061c\ufeff)")
      << "direction of writing";
}

TEST(Escaped, shows_bytes_that_are_not_utf8) {
  EXPECT_EQ(escaped("caf\xe9!"), R"(caf\xe9!)");
  EXPECT_EQ(escaped("\xc0\xaf"), R"(\xc0\xaf)") << "overlong";
  EXPECT_EQ(escaped("\xed\xa0\x80"), R"(\xed\xa0\x80)") << "half of a surrogate pair";
  EXPECT_EQ(escaped("\xf4\x90\x80\x80"), R"(\xf4\x90\x80\x80)") << "beyond Unicode";
  EXPECT_EQ(escaped("\xe6\x9c"), R"(\xe6\x9c)") << "cut short";
}

TEST(Escaped, does_nothing_twice) {
  std::string every_byte;
  for (int byte = 0; byte < 256; ++byte) every_byte += static_cast<char>(byte);
  const std::string once = escaped(every_byte + "\u202e");
  EXPECT_EQ(escaped(once), once);
}

TEST(Shortened, loses_the_middle) {
  EXPECT_EQ(shortened("0123456789", 10), "0123456789");
  EXPECT_EQ(shortened("0123456789a", 10), "012 ... 9a");
  EXPECT_EQ(shortened("月月月月月月", 12), "月 ... 月") << "characters stay whole";
  EXPECT_EQ(escaped(shortened(std::string(1000, '\x80'), 100)), " ... ") << "an end of bytes that begin no character";
  EXPECT_EQ(shortened(std::string(1'000'000, 'x')).size(), 400u);
}

TEST(InQuotes, is_one_short_line) {
  EXPECT_EQ(in_quotes("b\ne"), R"("b\x0ae")");
  EXPECT_LT(in_quotes(std::string(10'000, 'x')).size(), 130u);
}

TEST(Message, makes_texts_harmless_wherever_they_come_from) {
  const std::string text = "a\nb";
  const std::filesystem::path path = "c\x1b";
  const std::vector<std::string> list = {"d\n", "e"};
  EXPECT_EQ(message("{}|{}|{}|{}|{}", text, "f\n", std::string_view(text), path.string(), fmt::join(list, ", ")),
            R"(a\x0ab|f\x0a|a\x0ab|c\x1b|d\x0a, e)");
  EXPECT_EQ(message("{:>3} {} {:.1f} {}", "x", 7, 1.25, 'c'), "  x 7 1.2 c");
  const std::string long_message = message("{}: begin and end", "/begin/" + std::string(100'000, 'x') + "/end");
  EXPECT_THAT(long_message, StartsWith("/begin/"));
  EXPECT_THAT(long_message, EndsWith("/end: begin and end"));
  EXPECT_LT(long_message.size(), 500u);
  EXPECT_STREQ(user_error("{}: bad", text).what(), R"(a\x0ab: bad)");
  EXPECT_STREQ(failure("{}: bad", text).what(), R"(a\x0ab: bad)");
}

}  // namespace
}  // namespace heartmula
