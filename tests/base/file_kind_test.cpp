#include "base/file_kind.h"

#include <gmock/gmock.h>

#include <utility>
#include <vector>

#include "base/testing.h"

namespace heartmula {
namespace {

using namespace std::string_view_literals;
using testing::HasSubstr;
using testing::StartsWith;

std::string refusal(std::string_view bytes, FileKind wanted = FileKind::kSafetensors) {
  return error_of(ErrorKind::kUser, [&] { refuse_other_kind(std::as_bytes(std::span(bytes)), wanted, "dir/x"); });
}

void expect_none(std::string_view bytes, FileKind wanted) {
  EXPECT_NO_THROW(refuse_other_kind(std::as_bytes(std::span(bytes)), wanted, "x")) << bytes;
}

TEST(RefuseOtherKind, names_what_a_file_is) {
  std::string tar(557, 'x');
  tar.replace(257, 6, "ustar\0"sv).replace(263, 294, 294, '\0');
  const std::vector<std::pair<std::string_view, const char*>> files = {
      {"<!DOCTYPE html>\n<html><title>Sign in</title>"sv, "a web page (HTML)"},
      {"\xEF\xBB\xBF \n<HTML lang=en>"sv, "a web page (HTML)"},
      {"<?xml version='1.0'?><Error><Code>AccessDenied</Code>"sv, "an XML document"},
      {"GGUF\x03\0\0\0"sv, "a GGUF file"},
      {"PK\x03\x04\0\0\0\0archive/data.pklFB"sv, "a PyTorch file (pickle)"},
      {"\x80\x02}q\0"sv, "a PyTorch file (pickle)"},
      {"PK\x03\x04\0\0\0\0lyrics.txt"sv, "a ZIP archive"},
      {"\x1F\x8B\x08\0"sv, "a gzip archive"},
      {"\xFD\x37zXZ\0\0"sv, "an xz archive"},
      {tar, "a tar archive"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 7\n"sv, "a pointer of Git LFS"},
      {"\x89PNG\r\n\x1A\n"sv, "a picture (PNG)"},
      {"\xFF\xD8\xFF\xE0"sv, "a picture (JPEG)"},
      {"RIFF\x24\0\0\0WAVEfmt "sv, "an audio file (WAV)"},
      {"fLaC\0\0\0\x22"sv, "an audio file (FLAC)"},
      {"ID3\x04\0"sv, "an audio file (MP3)"},
      {"%PDF-1.7"sv, "a PDF document"},
      {"{\\rtf1\\ansi moon}"sv, "a word processor's document (RTF)"},
      {"\xFF\xFE[\0V\0"sv, "text in UTF-16"},
      {"Entry not found"sv, "text, which begins \"Entry not found\""},
      {"{\"error\": \"Repository not found\"}"sv, "JSON, which begins \"{\"error\""},
      {std::string_view("\0\0\0\0\0\0\0\0\0\0", 10), "nothing but zero bytes"},
      {""sv, "empty"},
  };
  for (const auto& [bytes, what] : files) {
    EXPECT_THAT(refusal(bytes), StartsWith(std::string("dir/x: is ") + what));
    EXPECT_THAT(refusal(bytes), HasSubstr(", not a safetensors file; "));
  }
  EXPECT_EQ(refusal("GGUF\x03"),
            "dir/x: is a GGUF file, not a safetensors file; take the checkpoint's .safetensors files instead");
}

TEST(RefuseOtherKind, knows_safetensors_where_something_else_should_be) {
  const std::string_view file = "\x40\0\0\0\0\0\0\0{\"a\":{\"dtype\""sv;
  EXPECT_THAT(refusal(file, FileKind::kJson), StartsWith("dir/x: is a safetensors file, not JSON"));
  EXPECT_THAT(refusal("fLaC", FileKind::kJson), HasSubstr("an audio file (FLAC), not JSON"));
  EXPECT_THAT(refusal("[Verse]\nLa la", FileKind::kAudio), HasSubstr("not an audio file"));
}

TEST(RefuseOtherKind, says_nothing_of_the_wanted_kind_or_of_what_it_does_not_know) {
  expect_none("{\"a\": 1,}", FileKind::kJson);
  expect_none(" [1, 2", FileKind::kJson);
  expect_none("RIFF\x24\0\0\0WAVE"sv, FileKind::kAudio);
  expect_none("\x01\x02\x03\xFC\x99", FileKind::kSafetensors);
  expect_none("\x40\0\0\0\0\0\0\0{\"a\""sv, FileKind::kSafetensors);
}

TEST(RefuseOtherKind, quotes_text_harmlessly) {
  expect_none("not found\n\x1b[31m", FileKind::kSafetensors);  // no text
  EXPECT_THAT(refusal("not\u202e found"), HasSubstr(R"(begins "not\u202e found")"));
  EXPECT_THAT(refusal(std::string(100'000, 'x')), HasSubstr("text, which begins \"xxx"));
  EXPECT_LT(refusal(std::string(100'000, 'x')).size(), 200u);
}

TEST(UnfinishedDownload, is_what_a_downloader_keeps_beside_a_file) {
  for (const char* suffix : {".aria2", ".part", ".incomplete", ".crdownload", ".download"}) {
    const TemporaryFolder folder;
    const std::filesystem::path file = folder.write("model.safetensors", "whole, it seems");
    EXPECT_EQ(unfinished_download_of(file), "");
    EXPECT_EQ(unfinished_download_in(folder.path()), "");
    EXPECT_EQ(download_hint(folder.path()), "");
    refuse_unfinished_download(file);
    const std::filesystem::path control = folder.write("model.safetensors" + std::string(suffix), "");
    EXPECT_EQ(unfinished_download_of(file), control);
    EXPECT_EQ(unfinished_download_in(folder.path()), control);
    EXPECT_THAT(error_of(ErrorKind::kUser, [&] { refuse_unfinished_download(file); }),
                StartsWith(file.string() + ": model.safetensors" + suffix + " beside it says"));
  }
}

TEST(UnfinishedDownload, knows_where_the_hugging_face_client_keeps_its_halves) {
  for (const char* place : {"ckpt/model/.cache/huggingface/download/4tZ=.ab12.incomplete",
                            "ckpt/.cache/huggingface/download/model/4tZ=.ab12.incomplete"}) {
    const TemporaryFolder folder;
    const std::filesystem::path control = folder.write(place, "");
    std::filesystem::create_directory(folder / "ckpt/model");
    EXPECT_TRUE(std::filesystem::equivalent(unfinished_download_in(folder / "ckpt/model"), control)) << place;
    EXPECT_THAT(download_hint(folder / "ckpt/model/"), HasSubstr("ab12.incomplete says that a download has not ended"));
  }
}

TEST(ReadDownloaded, adds_the_likely_cause_to_what_is_wrong) {
  const TemporaryFolder folder;
  const auto fail = []() -> int { throw user_error("x: truncated"); };
  const std::filesystem::path path = folder / "x";
  EXPECT_EQ(error_of(ErrorKind::kUser, [&] { read_downloaded(path, fail); }), "x: truncated");
  folder.write("y.part", "");
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { read_downloaded(path, fail); }),
              StartsWith("x: truncated; " + (folder / "y.part").string() + " says that"));
  EXPECT_EQ(read_downloaded(path, [] { return 7; }), 7);
}

TEST(FileKind, utf_16_without_a_mark_is_told) {
  const auto told = [](std::u16string_view text, bool swapped) {
    std::string bytes;
    for (const char16_t unit : text) {
      const char low = static_cast<char>(unit & 0xFF);
      const char high = static_cast<char>(unit >> 8);
      bytes += swapped ? high : low;
      bytes += swapped ? low : high;
    }
    return error_of(ErrorKind::kUser,
                    [&] { refuse_other_kind(std::as_bytes(std::span(bytes)), FileKind::kJson, "song.json"); });
  };
  for (const std::u16string_view text :
       {u"{\"topk\": 3}", u"{}", u"[verse]\r\nla la", u"{\"\u6708\": 1}", u"{\n\t\"x\": 1}"}) {
    for (const bool swapped : {false, true}) {
      EXPECT_EQ(told(text, swapped), "song.json: is text in UTF-16, not JSON; save it as UTF-8");
    }
  }
}

TEST(FileKind, numbers_are_no_utf_16) {
  for (const std::string& bytes : {std::string("\1\0\2\0\3\0", 6), std::string("{\0\0\0\0\0\0\0", 8)}) {
    refuse_other_kind(std::as_bytes(std::span(bytes)), FileKind::kJson, "x");
  }
}

}  // namespace
}  // namespace heartmula
