#include "text/text_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "base/testing.h"

namespace heartmula {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

std::string text_of(const std::string& value) {
  return read_text_argument("--lyrics", value);
}

std::string complaint(const std::string& value) {
  return error_of(ErrorKind::kUser, [&] { text_of(value); });
}

TEST(TextSource, a_file_stands_for_its_contents) {
  const TemporaryFolder folder;
  EXPECT_EQ(text_of(folder.write("lyrics", "[Verse]\nLa\n")), "[Verse]\nLa\n");
  EXPECT_EQ(text_of(folder.write("empty.txt", "")), "");
  EXPECT_EQ(text_of(folder.write("Été 夏.txt", "x")), "x");
  EXPECT_EQ(text_of(folder.write("no utf8 \xff", "x")), "x");
}

TEST(TextSource, line_ends_of_a_file_are_those_of_python) {
  const TemporaryFolder folder;
  EXPECT_EQ(text_of(folder.write("a", "1\r\n2\r3\n4\r\r\n5\n\r6\r")), "1\n2\n3\n4\n\n5\n\n6\n");
}

TEST(TextSource, a_byte_order_mark_of_a_file_is_no_text) {
  const TemporaryFolder folder;
  const std::string mark = "\xEF\xBB\xBF";
  EXPECT_EQ(text_of(folder.write("a", mark + "la")), "la");
  EXPECT_EQ(text_of(folder.write("a", mark)), "");
  EXPECT_EQ(text_of(folder.write("a", mark + mark + "la")), mark + "la");
  EXPECT_EQ(text_of(folder.write("a", "la" + mark)), "la" + mark);
}

TEST(TextSource, what_names_no_file_is_the_text_itself) {
  const TemporaryFolder folder;  // a folder is no file
  for (const std::string text : {"piano,happy", "", "la\r\nla\r", "[Verse]\n./not/a/file", "a/b", ".txt files are",
                                 "...", "~", "~user", "lyrics.txt\nsecond line", "song.lrc.", "\xEF\xBB\xBF text"}) {
    EXPECT_EQ(text_of(text), text);
  }
  EXPECT_EQ(text_of(std::string(100'000, 'x')), std::string(100'000, 'x'));  // longer than any name
  EXPECT_EQ(text_of(std::string("a\0.txt b", 8)), std::string("a\0.txt b", 8));
}

TEST(TextSource, what_looks_like_a_file_and_is_none_is_an_error) {
  for (const std::string value : {"lyrics.txt", "LYRICS.TXT", "song.lrc", "/no/such/file", "./no", "../no", "~/no/such",
                                  "lyrics.txt\n", "lyrics.txt  ", "la la.txt", "/"}) {
    const std::string shown = value.substr(0, value.find_last_not_of(" \n") + 1);
    EXPECT_THAT(complaint(value), AllOf(StartsWith("--lyrics " + shown + ":"), HasSubstr("--lyrics_text"))) << value;
  }
  const TemporaryFolder folder;
  EXPECT_THAT(complaint(folder.path()), HasSubstr("no such regular file"));
}

TEST(TextSource, the_home_folder_is_found) {
  const TemporaryFolder folder;
  folder.write("lyrics", "at home");
  const char* before = ::getenv("HOME");
  const std::string home = before == nullptr ? "" : before;
  ::setenv("HOME", folder.path().c_str(), 1);
  EXPECT_EQ(text_of("~/lyrics"), "at home");
  ::setenv("HOME", home.c_str(), 1);
}

TEST(TextSource, invalid_utf8_is_told_with_its_place) {
  const TemporaryFolder folder;
  EXPECT_THAT(complaint("la \xff"), AllOf(StartsWith("--lyrics"), EndsWith("byte 3")));
  EXPECT_THAT(complaint(folder.write("a.txt", "\r\nx\xc3")), AllOf(HasSubstr("a.txt"), EndsWith("byte 3")));
  EXPECT_THAT(complaint(folder.write("utf16.txt", "\xff\xfel")), AllOf(HasSubstr("utf16.txt"), EndsWith("byte 0")));
}

TEST(TextSource, a_file_without_end_is_refused) {
  EXPECT_THAT(complaint("/dev/zero"), HasSubstr("/dev/zero"));
}

}  // namespace
}  // namespace heartmula
