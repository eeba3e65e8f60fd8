// heartmula convert as a user runs it, and --mlock on what it wrote.
#include <unistd.h>

#include "cli/testing.h"

namespace heartmula {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

std::string converted(const TemporaryFolder& folder) {
  const std::string packed = folder / "packed";
  succeeds({"convert", "--model_path", kTinyCheckpoint, "--save_path", packed, "--progress", "none"});
  return packed;
}

/// The data chunk; the tags behind it name the checkpoint.
std::string samples_of(const TemporaryFolder& folder, const std::string& checkpoint) {
  const fs::path song = folder / "song.wav";
  succeeds(Arguments{"generate"} + song_flags(800, checkpoint) + Arguments{"--save_path", song, "--progress", "none"});
  const std::string wav = contents(song);
  const size_t begin = wav.find("data") + 4;
  uint32_t bytes = 0;
  wav.copy(reinterpret_cast<char*>(&bytes), sizeof bytes, begin);
  return wav.substr(begin + sizeof bytes, bytes);
}

TEST(Convert, the_packed_checkpoint_makes_the_same_song) {
  const TemporaryFolder folder;
  const std::string packed = samples_of(folder, converted(folder));
  EXPECT_GT(packed.size(), 48'000u);
  EXPECT_TRUE(packed == samples_of(folder, kTinyCheckpoint));
}

TEST(Convert, that_weights_were_rounded_stands_beside_the_song) {
  const TemporaryFolder folder;
  const std::string packed = folder / "packed";
  succeeds({"convert", "--model_path", kTinyCheckpoint, "--save_path", packed, "--codec_dtype", "bf16"});
  samples_of(folder, packed);
  EXPECT_THAT(json_of(folder / "song.wav.json")["result"]["warnings"].dump(), HasSubstr("rounded to bfloat16"));
}

TEST(Convert, a_full_disk_is_named_and_leaves_nothing_behind) {
  const TemporaryFolder folder;
  const Finished finished = run_script(
      "ulimit -f 100; heartmula convert --model_path " + kTinyCheckpoint + " --save_path packed --progress none",
      folder.path());
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(finished.err, AllOf(HasSubstr("model.safetensors"), HasSubstr("File too large")));
  EXPECT_THAT(std::vector<fs::directory_entry>(fs::directory_iterator(folder.path()), {}), IsEmpty());
}

#if !defined(HEARTMULA_SANITIZED)  // a sanitizer locks nothing and says that it did

// Root may lock what it likes, so the right is taken away first.
TEST(Mlock, a_limit_that_is_too_low_is_named_with_what_to_do) {
  const TemporaryFolder folder;
  const std::string packed = converted(folder);
  const std::string without_right = ::geteuid() == 0 ? "setpriv --bounding-set=-ipc_lock " : "";
  const Finished finished =
      run_script("ulimit -l 64; " + without_right + "\"${program[@]}\" generate --model_path " + packed +
                     " --lyrics_text la --tags_text piano --save_path song.wav --mlock --progress none",
                 folder.path());
  EXPECT_EQ(finished.exit_code, 2);
  EXPECT_THAT(finished.err, AllOf(HasSubstr("--mlock"), HasSubstr("ulimit -l unlimited"), HasSubstr("leave --mlock")));
}

TEST(Mlock, weights_are_locked_while_the_song_is_made) {
  if (emulated()) GTEST_SKIP() << "an emulator's own memory is not the program's";
  const TemporaryFolder folder;
  const std::string packed = converted(folder);
  Process process(program(Arguments{"generate"} + song_flags(60'000, packed) +
                          Arguments{"--save_path", folder / "song.wav", "--mlock", "--progress", "lines"}));
  constexpr int64_t kEnough = 100;  // kB
  int64_t locked = 0;
  process.wait_until([&] {  // they are locked one after another
    std::ifstream status("/proc/" + std::to_string(process.id()) + "/status");
    for (std::string line; std::getline(status, line);) {
      if (line.rfind("VmLck:", 0) == 0) locked = std::stoll(line.substr(6));
    }
    return locked > kEnough;
  });
  process.send(SIGTERM);
  const Finished finished = process.wait();
  if (finished.err.find("--mlock: this process may lock only") != std::string::npos) {
    GTEST_SKIP() << "this user may not lock so much";
  }
  EXPECT_GT(locked, kEnough) << "kB";
}

#endif

}  // namespace
}  // namespace heartmula
