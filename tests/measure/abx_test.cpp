#include "measure/abx.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iterator>

#include "base/testing.h"
#include "measure/signals.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

/// Two systems, "new" and "old", with these pieces.
void make_pieces(const TemporaryFolder& folder, const std::vector<std::string>& names) {
  for (const char* system : {"new", "old"}) {
    fs::create_directories(folder.path() / "in" / system);
    for (const std::string& name : names) {
      write_wav(folder.path() / "in" / system / name, {sine(0.1, system[0] == 'n' ? 440 : 880, 0.5)});
    }
  }
}

TEST(Base64, is_that_of_the_rfc) {
  // RFC 4648, section 10.
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64("\xff\xfe\xfd"), "//79");
}

TEST(AbxPage, holds_every_piece_and_asks_for_nothing_else) {
  const TemporaryFolder folder;
  make_pieces(folder, {"one.wav", "two <b>.wav"});
  folder.write("in/old/one.wav.json", "{}");
  folder.write("in/new/.hidden.wav", "");
  const AbxPage page = write_abx_page(folder / "in", folder / "page.html", 7);
  EXPECT_THAT(page.systems, ElementsAre("new", "old"));
  EXPECT_THAT(page.pieces, ElementsAre("one", "two <b>"));
  const std::string html = contents(folder / "page.html");
  EXPECT_THAT(html, AllOf(HasSubstr("\"trials\":7"), HasSubstr("two \\u003cb>"), HasSubstr("default-src 'none'"),
                          Not(HasSubstr("http://")), Not(HasSubstr("https://")), Not(HasSubstr("@TEST@")),
                          Not(HasSubstr("@AUDIO@"))));
  for (const char* id : {"audio-0-0", "audio-0-1", "audio-1-0", "audio-1-1"}) EXPECT_THAT(html, HasSubstr(id));
  EXPECT_THAT(html, HasSubstr("data:audio/wav;base64," + base64(contents(folder / "in/old/one.wav")) + "</script>"));
}

TEST(AbxPage, a_piece_of_one_system_alone_is_left_out) {
  const TemporaryFolder folder;
  make_pieces(folder, {"one.wav", "two.wav"});
  fs::remove(folder / "in/old/two.wav");
  EXPECT_THAT(write_abx_page(folder / "in", folder / "page.html", 1).pieces, ElementsAre("one"));
}

TEST(AbxPage, takes_the_place_of_an_earlier_page_and_of_nothing_else) {
  const TemporaryFolder folder;
  make_pieces(folder, {"one.wav"});
  write_abx_page(folder / "in", folder / "page.html", 7);
  write_abx_page(folder / "in", folder / "page.html", 8);
  const fs::path kept = folder.write("in/old/one.wav.json", "{}");
  const fs::path page = folder.write("mine.html", "<!DOCTYPE html>\n<title>Mine</title>");
  for (const fs::path& output : {kept, page}) {
    const std::string before = contents(output);
    EXPECT_EQ(error_of(ErrorKind::kUser, [&] { write_abx_page(folder / "in", output, 7); }),
              output.string() + ": is there already, and is no page of abx; choose another --output, or remove it");
    EXPECT_EQ(contents(output), before);
  }
  write_abx_page(folder / "in", folder.write("empty.html", ""), 7);
}

TEST(AbxPage, what_is_wrong_is_told_and_nothing_is_written) {
  const TemporaryFolder folder;
  make_pieces(folder, {"one.wav"});
  const auto complaint = [&](const fs::path& in, int trials = 16) {
    std::string message = error_of(ErrorKind::kUser, [&] { write_abx_page(in, folder / "page.html", trials); });
    EXPECT_FALSE(fs::exists(folder / "page.html")) << message;
    return message;
  };
  EXPECT_THAT(complaint(folder / "nowhere"), HasSubstr("nowhere"));
  EXPECT_THAT(complaint(folder / "in/old"), HasSubstr("two, one for each system"));
  EXPECT_THAT(complaint(folder / "in", 0), HasSubstr("--trials is 0"));
  EXPECT_THAT(complaint(folder / "in", kMostAbxTrials + 1), HasSubstr("--trials"));

  fs::copy_file(folder / "in/old/one.wav", folder / "in/old/one.flac");
  EXPECT_THAT(complaint(folder / "in"), HasSubstr("the same piece"));
  fs::remove(folder / "in/old/one.flac");

  fs::create_directory(folder / "in/third");
  EXPECT_THAT(complaint(folder / "in"), HasSubstr("3 folders"));
  fs::remove(folder / "in/third");

  folder.write("in/old/two.wav", "no audio");
  folder.write("in/new/two.wav", "no audio");
  EXPECT_THAT(complaint(folder / "in"), AllOf(HasSubstr("two.wav"), HasSubstr("not an audio file")));
  fs::resize_file(folder / "in/new/two.wav", kMostAbxBytes + 1);  // a hole, not bytes on the disk
  EXPECT_THAT(complaint(folder / "in"), AllOf(HasSubstr("200 MB"), HasSubstr("FLAC or Opus")));

  for (const char* name : {"in/old/one.wav", "in/old/two.wav"}) fs::remove(folder / name);
  EXPECT_THAT(complaint(folder / "in"), HasSubstr("no piece in common"));
}

}  // namespace
}  // namespace heartmula
