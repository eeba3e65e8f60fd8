// --spectrogram: a picture beside the song, which it never costs.
#include "cli/testing.h"

namespace heartmula {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

const std::string kPngSignature = "\x89PNG\r\n\x1a\n";

TEST(Spectrogram, is_drawn_by_generate_and_decode) {
  const TemporaryFolder folder;
  const fs::path song = folder / "song.wav";
  const fs::path codes = folder / "codes";
  succeeds(generate(song, {"--spectrogram", folder / "song.PNG", "--save_codes", codes}));
  succeeds({"decode", codes, "--save_path", folder / "again.wav", "--spectrogram", folder / "again.png"});
  EXPECT_THAT(contents(folder / "song.PNG"), StartsWith(kPngSignature));
  EXPECT_EQ(contents(folder / "song.PNG"), contents(folder / "again.png"));
  EXPECT_FALSE(json_of(song.string() + ".json")["request"].contains("spectrogram"));
}

TEST(Spectrogram, that_cannot_be_is_refused_before_the_work) {
  const TemporaryFolder folder;
  const auto refuses = [&](const Arguments& flags) {
    std::string message = refused(generate(folder / "song.wav", flags), 2);
    EXPECT_THAT(files_in(folder.path()), IsEmpty()) << message;
    return message;
  };
  EXPECT_THAT(refuses({"--spectrogram", folder / "song.jpg"}), AllOf(HasSubstr("song.jpg"), HasSubstr(".png")));
  EXPECT_THAT(refuses({"--spectrogram", ""}), HasSubstr("--spectrogram: a value is missing"));
  EXPECT_THAT(refuses({"--spectrogram", "/no/such/folder/song.png"}), HasSubstr("/no/such/folder"));
  const fs::path one = folder / "one.png";
  EXPECT_THAT(refuses({"--spectrogram", one, "--save_path", one, "--format", "wav"}), HasSubstr("the same file"));
  EXPECT_THAT(refuses({"--spectrogram", one, "--save_codes", one}), HasSubstr("--save_codes"));
}

TEST(Spectrogram, on_a_full_disk_does_not_cost_the_song) {
  const TemporaryFolder folder;
  const fs::path picture = folder / "song.png";
  fs::create_symlink("/dev/full", picture);
  const auto told = AllOf(HasSubstr("--spectrogram: "), HasSubstr("song.png"), HasSubstr("No space left"));
  const Finished made = succeeds(generate(folder / "song.wav", {"--spectrogram", picture}));
  EXPECT_THAT(made.err, AllOf(told, HasSubstr("song.wav")));
  EXPECT_THAT(succeeds(generate(folder / "song.wav", {"--spectrogram", picture, "--progress", "none"})).err, told);
  EXPECT_TRUE(fs::exists(folder / "song.wav.json"));
}

}  // namespace
}  // namespace heartmula
