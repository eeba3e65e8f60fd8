#include "base/output_lock.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>
#include <string>

#include "base/testing.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;

std::string refusal_of(const fs::path& path) {
  return error_of(ErrorKind::kUser, [&] { OutputLock(path, "--save_path"); });
}

/// Another process that has the lock until it is killed.
class Holder {
 public:
  explicit Holder(const fs::path& path) {
    int ready[2];
    if (::pipe(ready) != 0) throw std::runtime_error("no pipe");
    child_ = ::fork();
    if (child_ == 0) {
      const OutputLock lock(path, "--save_path");
      if (::write(ready[1], "x", 1) != 1) ::_exit(1);
      while (true) ::pause();
    }
    char byte = 0;
    if (::read(ready[0], &byte, 1) != 1) throw std::runtime_error("the other process has no lock");
    ::close(ready[0]);
    ::close(ready[1]);
  }
  void kill() {
    if (child_ > 0) ::kill(child_, SIGKILL);
    if (child_ > 0) ::waitpid(child_, nullptr, 0);
    child_ = -1;
  }
  ~Holder() { kill(); }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

 private:
  pid_t child_ = -1;
};

TEST(OutputLock, is_for_one_at_a_time_and_leaves_nothing) {
  const TemporaryFolder folder;
  const fs::path path = folder / "song.wav";
  {
    const OutputLock first(path, "--save_path");
    EXPECT_EQ(refusal_of(path),
              path.string() + ": another heartmula is writing there; choose another --save_path, or wait");
    const OutputLock other(folder / "other.wav", "--save_path");
    EXPECT_FALSE(fs::exists(path));
  }
  EXPECT_EQ(folder.file_count(), 0u);
  const OutputLock again(path, "--save_path");
}

TEST(OutputLock, holds_between_processes_until_the_other_is_killed) {
  const TemporaryFolder folder;
  const fs::path path = folder / "song.wav";
  Holder holder(path);
  EXPECT_THAT(refusal_of(path), testing::HasSubstr("another heartmula"));
  holder.kill();
  { const OutputLock lock(path, "--save_path"); }
  EXPECT_EQ(folder.file_count(), 0u) << "what the killed one left is gone";
}

TEST(OutputLock, of_a_killed_program_goes_with_the_next_one_in_the_folder) {
  const TemporaryFolder folder;
  Holder killed(folder / "trace.json");
  const Holder alive(folder / "other.png");
  folder.write(".notes.heartmula-lock", "not ours: it holds something");
  killed.kill();
  { const OutputLock lock(folder / "song.wav", "--save_path"); }
  EXPECT_FALSE(fs::exists(folder / ".trace.json.heartmula-lock"));
  EXPECT_TRUE(fs::exists(folder / ".other.png.heartmula-lock"));
  EXPECT_TRUE(fs::exists(folder / ".notes.heartmula-lock"));
}

TEST(OutputLock, can_be_asked_for_without_an_error) {
  const TemporaryFolder folder;
  const fs::path path = folder / "song.wav";
  const std::optional<OutputLock> lock = OutputLock::if_free(path);
  ASSERT_TRUE(lock);
  EXPECT_FALSE(OutputLock::if_free(path));
  refusal_of(path);
}

TEST(OutputLock, is_the_same_whatever_way_the_name_takes) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "inner");
  fs::create_directory_symlink(folder / "inner", folder / "door");
  fs::create_symlink("inner/song.wav", folder / "link.wav");
  const OutputLock lock(folder / "inner/song.wav", "--save_path");
  for (const char* other : {"inner/./song.wav", "door/song.wav", "link.wav", "inner/../inner/song.wav"}) {
    refusal_of(folder / other);
  }
  folder.write("inner/song.wav", "meanwhile it is there");
  refusal_of(folder / "door/song.wav");
}

TEST(OutputLock, locks_a_folder_to_be) {
  const TemporaryFolder folder;
  const OutputLock lock(folder / "packed/", "--save_path");
  refusal_of(folder / "packed");
}

TEST(OutputLock, is_none_where_nothing_can_be_locked) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  for (const fs::path& path : {folder / "pipe", folder / "missing/song.wav", fs::path("/dev/stdout"),
                               fs::path("/dev/null"), fs::path("/proc/song.wav"), fs::path("")}) {
    const OutputLock first(path, "--save_path");
    const OutputLock second(path, "--save_path");
  }
  EXPECT_EQ(folder.file_count(), 1u);
}

}  // namespace
}  // namespace heartmula
