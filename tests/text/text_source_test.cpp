#include "text/text_source.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "base/input.h"
#include "base/testing.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;
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
                                 "...", "~user", "lyrics.txt\nsecond line", "song.lrc.", "\xEF\xBB\xBF text", "vol.2",
                                 "r.b,s.oul", "what.ever they.say", "月亮.夏", "\t\v\f\u0085"}) {
    EXPECT_EQ(text_of(text), text);
  }
  EXPECT_EQ(text_of(std::string(100'000, 'x')), std::string(100'000, 'x'));  // longer than any name
}

TEST(TextSource, streams_are_read_to_their_end) {
  const TemporaryFolder folder;
  const fs::path pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::thread writer([&] { std::ofstream(pipe) << "\xEF\xBB\xBFla\r\nla"; });
  EXPECT_EQ(text_of(pipe), "la\nla");
  writer.join();
  std::thread nobody([&] { std::ofstream{pipe}; });
  EXPECT_THAT(complaint(pipe), HasSubstr("nothing came from it"));
  nobody.join();
  std::thread binary([&] { std::ofstream(pipe) << "l\x1B[1m"; });
  EXPECT_THAT(complaint(pipe), StartsWith("--lyrics " + pipe.string() + ":"));
  binary.join();
}

TEST(TextSource, minus_is_the_standard_input) {
  const TemporaryFolder folder;
  const fs::path file = folder.write("file", "from there\r\n");
  const int before = ::dup(STDIN_FILENO);
  for (const char* name : {"-", "/dev/stdin", "/dev/fd/0"}) {
    const int descriptor = ::open(file.c_str(), O_RDONLY);
    ::dup2(descriptor, STDIN_FILENO);
    ::close(descriptor);
    EXPECT_EQ(text_of(name), "from there\n") << name;
  }
  EXPECT_THAT(text_of("-"), "from there\n") << "/dev/fd/0 was opened anew";
  EXPECT_THAT(complaint("-"), HasSubstr("standard input: nothing came from it"));
  ::dup2(before, STDIN_FILENO);
  ::close(before);
}

TEST(TextSource, what_cannot_be_sung_is_told_by_its_kind) {
  const auto refuses = [](std::string_view text) {
    return error_of(ErrorKind::kUser, [&] { check_song_text("lyrics", text); });
  };
  const auto wide = [](std::u16string_view text, bool big) {
    std::string bytes;
    for (const char16_t unit : text) {
      bytes += static_cast<char>(big ? unit >> 8 : unit & 0xFF);
      bytes += static_cast<char>(big ? unit & 0xFF : unit >> 8);
    }
    return bytes;
  };
  const std::string utf16 = "lyrics: looks like UTF-16: save it as UTF-8";
  for (const bool big : {false, true}) {
    for (const std::u16string text :
         {u"[verse]\nla la", u"la", u"[主歌]\n月亮一代表我的心\n一二三四五六七", u"\uFEFF[verse]"}) {
      EXPECT_EQ(refuses(wide(text, big)), utf16);
    }
  }
  EXPECT_EQ(refuses(std::string("l\0\0\0a\0\0\0\n\0\0\0", 12)), utf16) << "UTF-32";
  EXPECT_EQ(refuses(std::string("la la la la la la la l\0la", 25)),
            "lyrics: control character U+0000 in line 1: remove it");
  EXPECT_THAT(refuses("one\ntwo \x1B[31mred"), AllOf(HasSubstr("U+001B in line 2"), HasSubstr("escape sequence")));
  for (const std::string control : {"\x01", "\x08", "\x1F", "\x7F", "\xC2\x80", "\xC2\x9B"}) {
    EXPECT_THAT(refuses("la " + control), HasSubstr("control character U+00"));
  }
  EXPECT_THAT(refuses("{\\rtf1\\ansi la}"), HasSubstr("is a rich text (RTF) document: save it as plain text"));
  EXPECT_THAT(refuses("\n<!DOCTYPE html><p>la"), HasSubstr("web page"));
  EXPECT_THAT(refuses("\xEF\xBB\xBF<html>"), HasSubstr("web page"));
  EXPECT_THAT(refuses("%PDF-1.7"), HasSubstr("PDF"));
  EXPECT_THAT(refuses("PK\x03\x04xxxx"), HasSubstr("word processor"));
  EXPECT_THAT(refuses(std::string("GGUF\3\0\0\0\7\0\0\0", 12)), HasSubstr("GGUF"));
  EXPECT_THAT(refuses(std::string("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16)), HasSubstr("picture"));
  EXPECT_THAT(refuses("version https://git-lfs.github.com/spec/v1\noid sha256:1\n"), HasSubstr("Git LFS"));
  EXPECT_THAT(refuses(std::string("la\0la", 5)), HasSubstr("U+0000"));
  EXPECT_THAT(refuses(std::string("RIFF\x10\0\0\0WAVE", 12)), HasSubstr("is audio"));
  EXPECT_THAT(refuses("{\"request\": {\"lyrics\": \"la\"}}\n"), HasSubstr("--request"));
  EXPECT_THAT(refuses("caf\xE9"), AllOf(HasSubstr("byte 3"), EndsWith("save it as UTF-8")));
  for (const std::string text : {"{la la}", "[Verse]\nRiff\n", "ID3", "[1]", "<3 you", "é夏🎵\u200D\u2028\uFEFF"}) {
    check_song_text("lyrics", text);
  }
}

TEST(TextSource, what_looks_like_a_file_and_is_none_is_an_error) {
  for (const std::string value :
       {"lyrics.txt", "LYRICS.TXT", "song.lrc", "/no/such/file", "./no", "../no", "~/no/such", "lyrics.txt\n",
        "lyrics.txt  ", "la la.txt", "/", "moon.md", "~", "song.json", "歌.docx"}) {
    const std::string shown = value.substr(0, value.find_last_not_of(" \n") + 1);
    EXPECT_THAT(complaint(value), AllOf(StartsWith("--lyrics " + shown + ":"), HasSubstr("--lyrics_text"))) << value;
  }
  const TemporaryFolder folder;
  EXPECT_THAT(complaint(folder.path()), AllOf(HasSubstr("is no file"), HasSubstr("--lyrics_text")));
}

TEST(TextSource, the_home_folder_is_found) {
  const TemporaryFolder folder;
  folder.write("lyrics", "at home");
  const char* before = ::getenv("HOME");
  const std::string home = before == nullptr ? "" : before;
  ::setenv("HOME", folder.path().c_str(), 1);
  EXPECT_EQ(text_of("~/lyrics"), "at home");
  EXPECT_EQ(expand_home("~"), folder.path());
  EXPECT_EQ(expand_home("~/a/b"), folder / "a/b");
  for (const char* path : {"~user/a", "a/~/b", "", "./~"}) EXPECT_EQ(expand_home(path), path);
  ::setenv("HOME", home.c_str(), 1);
}

TEST(TextSource, invalid_utf8_is_told_with_its_place) {
  const TemporaryFolder folder;
  EXPECT_THAT(complaint("la \xff"), AllOf(StartsWith("--lyrics"), HasSubstr("byte 3:")));
  EXPECT_THAT(complaint(folder.write("a.txt", "\r\nx\xc3")), AllOf(HasSubstr("a.txt"), HasSubstr("byte 3:")));
  EXPECT_THAT(complaint(folder.write("utf16.txt", "\xff\xfel")), AllOf(HasSubstr("utf16.txt"), HasSubstr("UTF-16")));
}

TEST(TextSource, a_file_without_end_is_refused) {
  EXPECT_THAT(complaint("/dev/zero"), HasSubstr("/dev/zero"));
}

}  // namespace
}  // namespace heartmula
