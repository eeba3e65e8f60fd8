#include "base/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "base/testing.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Acts without the rights of root while it lives.
class PlainUser {
 public:
  PlainUser() : was_root_(::geteuid() == 0), works_(!was_root_ || ::seteuid(65534) == 0) {}
  ~PlainUser() {
    if (was_root_ && works_ && ::seteuid(0) != 0) std::abort();
  }
  bool works() const { return works_; }

 private:
  bool was_root_;
  bool works_;
};

TEST(ReadFile, gives_the_contents) {
  const TemporaryFolder folder;
  EXPECT_EQ(read_file(folder.write("empty", "")), "");
  EXPECT_EQ(read_file(folder.write("nul", std::string_view("a\0b\r\n", 5))), std::string_view("a\0b\r\n", 5));
  const std::string large(1'000'003, 'x');
  EXPECT_EQ(read_file(folder.write("large", large)), large);
}

TEST(ReadFile, reads_files_that_say_they_are_empty) {
  EXPECT_THAT(read_file("/proc/self/status"), HasSubstr("Name:"));
}

TEST(ReadFile, refuses_more_than_max_bytes) {
  const TemporaryFolder folder;
  const fs::path path = folder.write("five", "12345");
  EXPECT_EQ(read_file(path, 5), "12345");
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { read_file(path, 4); }), StartsWith(path.string() + ": larger than"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { read_file("/proc/self/status", 4); }), HasSubstr("larger than"));
}

TEST(ReadFile, names_what_cannot_be_read) {
  const TemporaryFolder folder;
  const fs::path missing = folder / "missing";
  EXPECT_EQ(error_of(ErrorKind::kUser, [&] { read_file(missing); }), missing.string() + ": no such file");
  EXPECT_EQ(error_of(ErrorKind::kUser, [&] { read_file(folder.path()); }),
            folder.path().string() + ": is a folder, not a file");
  const fs::path below_a_file = folder.write("file", "") / "below";
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { read_file(below_a_file); }), EndsWith(": no such file"));
}

TEST(ReadFile, does_not_wait_for_a_pipe) {
  const TemporaryFolder folder;
  const fs::path pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(error_of(ErrorKind::kUser, [&] { read_file(pipe); }), pipe.string() + ": is not a regular file");
  EXPECT_EQ(error_of(ErrorKind::kUser, [&] { MappedFile::open(pipe); }), pipe.string() + ": is not a regular file");
}

TEST(ReadFile, names_missing_permission) {
  const TemporaryFolder folder;
  const fs::path path = folder.write("secret", "x");
  fs::permissions(path, fs::perms::none);
  fs::permissions(folder.path(), fs::perms::all);
  const PlainUser user;
  if (!user.works()) GTEST_SKIP() << "cannot give up the rights of root";
  EXPECT_EQ(error_of(ErrorKind::kUser, [&] { read_file(path); }), path.string() + ": not readable: permission denied");
}

TEST(MappedFile, shows_the_contents) {
  const TemporaryFolder folder;
  EXPECT_EQ(text_of(MappedFile::open(folder.write("file", "contents"))->bytes()), "contents");
  EXPECT_TRUE(MappedFile::open(folder.write("empty", ""))->bytes().empty());
}

TEST(MappedFile, names_what_cannot_be_opened) {
  const TemporaryFolder folder;
  EXPECT_EQ(error_of(ErrorKind::kUser, [&] { MappedFile::open(folder / "missing"); }),
            (folder / "missing").string() + ": no such file");
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { MappedFile::open(folder.path()); }), HasSubstr("is a folder"));
}

TEST(MappedFile, released_pages_can_be_read_again) {
  const TemporaryFolder folder;
  std::string contents(100'001, '\0');
  for (size_t i = 0; i < contents.size(); ++i) contents[i] = static_cast<char>(i * 7);
  const auto file = MappedFile::open(folder.write("file", contents));
  file->release(file->bytes());
  file->release(file->bytes().subspan(1, 5));
  file->release(file->bytes().subspan(5000, 50'000));
  file->release(file->bytes().subspan(99'999));
  file->release({});
  EXPECT_EQ(text_of(file->bytes()), contents);
  MappedFile::open(folder.write("empty", ""))->release({});
}

TEST(AtomicFile, takes_the_place_of_the_old_file_when_committed) {
  const TemporaryFolder folder;
  const fs::path path = folder.write("song", "old");
  for (const bool sync : {false, true}) {
    AtomicFile file(path);
    file.write(bytes_of("new "));
    file.write({});
    file.write(bytes_of("song"));
    EXPECT_EQ(folder.file_count(), 2u);
    EXPECT_EQ(file.temporary_path().parent_path(), folder.path());
    file.commit(sync);
    EXPECT_EQ(read_file(path), "new song");
    EXPECT_EQ(folder.file_count(), 1u);
    folder.write("song", "old");
  }
}

TEST(AtomicFile, leaves_no_trace_unless_committed) {
  const TemporaryFolder folder;
  const fs::path path = folder.write("song", "old");
  {
    AtomicFile file(path);
    file.write(bytes_of("new"));
  }
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(folder.file_count(), 1u);
}

TEST(AtomicFile, may_be_written_by_others_through_its_temporary_path) {
  const TemporaryFolder folder;
  AtomicFile file(folder / "song");
  std::ofstream(file.temporary_path()) << "by another library";
  file.commit(true);
  EXPECT_EQ(read_file(folder / "song"), "by another library");
}

TEST(AtomicFile, two_writers_of_one_file_do_not_meet) {
  const TemporaryFolder folder;
  AtomicFile first(folder / "song");
  AtomicFile second(folder / "song");
  EXPECT_NE(first.temporary_path(), second.temporary_path());
  first.write(bytes_of("first"));
  second.write(bytes_of("second"));
  second.commit(false);
  first.commit(false);
  EXPECT_EQ(read_file(folder / "song"), "first");
}

TEST(AtomicFile, writes_through_a_symbolic_link) {
  const TemporaryFolder folder;
  folder.write("elsewhere/song", "old");
  fs::create_symlink(folder / "elsewhere/song", folder / "link");
  AtomicFile file(folder / "link");
  file.write(bytes_of("new"));
  file.commit(false);
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(read_file(folder / "elsewhere/song"), "new");
}

TEST(AtomicFile, fills_a_dangling_link) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "elsewhere");
  fs::create_symlink("elsewhere/song", folder / "link");
  AtomicFile file(folder / "link");
  file.write(bytes_of("new"));
  file.commit(false);
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(read_file(folder / "elsewhere/song"), "new");
  fs::create_symlink("ring", folder / "ring");
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { AtomicFile ring(folder / "ring"); }), HasSubstr("leads to itself"));
}

struct stat status_of(const fs::path& path) {
  struct stat status = {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return status;
}

TEST(AtomicFile, keeps_the_rights_of_what_it_replaces) {
  const TemporaryFolder folder;
  const mode_t mask = ::umask(022);
  for (const mode_t mode : {0600u, 0640u, 0664u, 0777u}) {
    const fs::path path = folder.write("song", "old");
    ASSERT_EQ(::chmod(path.c_str(), mode), 0);
    if (::geteuid() == 0) {
      ASSERT_EQ(::chown(path.c_str(), 65534, 65533), 0);
    }
    const struct stat old = status_of(path);
    AtomicFile file(path);
    EXPECT_EQ(status_of(file.temporary_path()).st_mode & 0077, 0u) << "nobody may look in meanwhile";
    file.commit(false);
    const struct stat replaced = status_of(path);
    EXPECT_EQ(replaced.st_mode, old.st_mode);
    EXPECT_EQ(replaced.st_uid, old.st_uid);
    EXPECT_EQ(replaced.st_gid, old.st_gid);
  }
  AtomicFile(folder / "new").commit(false);
  EXPECT_EQ(status_of(folder / "new").st_mode & 07777, 0644u);
  ::umask(mask);
}

TEST(AtomicFile, gives_no_rights_to_another_group) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can make the file of another";
  const TemporaryFolder folder;
  const fs::path path = folder.write("song", "old");
  ASSERT_EQ(::chmod(path.c_str(), 0664), 0);
  fs::permissions(folder.path(), fs::perms::all);
  const PlainUser user;
  if (!user.works()) GTEST_SKIP() << "cannot give up the rights of root";
  AtomicFile(path).commit(false);
  EXPECT_EQ(status_of(path).st_mode & 07777, ::getegid() == 0 ? 0664u : 0604u);
}

/// Runs `work` in a process that is then killed.
template <typename Work>
void run_and_kill(const Work& work) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    work();
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
}

TEST(AtomicFile, what_a_killed_writer_left_goes_with_the_next_run) {
  const TemporaryFolder folder;
  const fs::path path = folder / "song";
  run_and_kill([&] { new AtomicFile(path); });
  run_and_kill([&] { new AtomicFile(folder / "song2"); });
  fs::create_directory(folder / "song.tmp-mine");
  folder.write("song.tmp-1.wav", "");
  ASSERT_EQ(folder.file_count(), 4u);
  AtomicFile alive(path);
  check_writable(path);
  EXPECT_TRUE(fs::exists(alive.temporary_path()));
  EXPECT_EQ(folder.file_count(), 4u) << "those of another output, of a living writer, and files of the user's stay";
  check_writable(folder / "song2");
  EXPECT_EQ(folder.file_count(), 3u);
}

TEST(AtomicFolder, what_a_killed_writer_left_goes_with_the_next_run) {
  const TemporaryFolder folder;
  const fs::path path = folder / "packed";
  run_and_kill([&] {
    const auto* left = new AtomicFolder(path);
    AtomicFile(left->temporary_path() / "file").commit(false);
  });
  ASSERT_EQ(folder.file_count(), 1u);
  AtomicFolder first(path);
  EXPECT_EQ(folder.file_count(), 1u);
  AtomicFolder second(path);
  EXPECT_EQ(folder.file_count(), 2u) << "the first lives";
  first.commit();
  EXPECT_TRUE(fs::is_directory(path));
}

TEST(AtomicFile, names_a_missing_folder_and_a_folder_in_its_place) {
  const TemporaryFolder folder;
  const fs::path path = folder / "missing/song.wav";
  EXPECT_EQ(error_of(ErrorKind::kUser, [&] { AtomicFile file(path); }),
            path.string() + ": there is no folder " + (folder / "missing").string());
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { AtomicFile file(folder.path()); }), HasSubstr("is a folder"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { AtomicFile file(folder.path().string() + "/"); }),
              HasSubstr("is a folder"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { AtomicFile file(folder / std::string(250, 'n')); }),
              HasSubstr("too long"));
  const fs::path file = folder.write("file", "");
  for (const char* below : {"song", "inner/song"}) {
    EXPECT_EQ(error_of(ErrorKind::kUser, [&] { AtomicFile song(file / below); }),
              (file / below).string() + ": " + file.string() + " is a file, not a folder");
    EXPECT_EQ(error_of(ErrorKind::kUser, [&] { check_writable(file / below); }),
              (file / below).string() + ": " + file.string() + " is a file, not a folder");
  }
  EXPECT_EQ(instead_of_folder(file), "is a file, not a folder");
  EXPECT_EQ(instead_of_folder(file / "inner/deep"), "no such folder, for " + file.string() + " is a file");
  EXPECT_EQ(instead_of_folder(folder / "missing/deep"), "no such folder");
}

TEST(AtomicFile, a_write_that_fails_is_a_failure_and_leaves_nothing) {
  const TemporaryFolder folder;
  struct rlimit old_limit = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit limit = old_limit;
  limit.rlim_cur = 4096;  // stands for a full disk: part of a write succeeds, the next fails
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  const fs::path path = folder / "song";
  const std::string message = error_of(ErrorKind::kFailure, [&] {
    AtomicFile file(path);
    file.write(bytes_of(std::string(10'000, 'x')));
    file.commit(true);
  });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old_limit), 0);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(message, path.string() + ": File too large");
  EXPECT_EQ(folder.file_count(), 0u);
}

TEST(AtomicFile, a_commit_that_fails_is_a_failure_and_leaves_nothing) {
  const TemporaryFolder folder;
  AtomicFile* file = new AtomicFile(folder / "song");
  fs::create_directory(folder / "song");  // meanwhile
  EXPECT_EQ(error_of(ErrorKind::kFailure, [&] { file->commit(false); }),
            (folder / "song").string() + ": Is a directory");
  delete file;
  EXPECT_EQ(folder.file_count(), 1u);
}

TEST(CheckWritable, a_regular_file_or_a_new_one) {
  const TemporaryFolder folder;
  EXPECT_EQ(check_writable(folder / "new.wav"), OutputKind::kRegular);
  EXPECT_EQ(folder.file_count(), 0u) << "it creates nothing that stays";
  const fs::path old = folder.write("old.wav", "contents");
  EXPECT_EQ(check_writable(old), OutputKind::kRegular);
  EXPECT_EQ(read_file(old), "contents");
  EXPECT_EQ(folder.file_count(), 1u);
}

TEST(CheckWritable, devices_pipes_and_sockets_are_streams) {
  const TemporaryFolder folder;
  EXPECT_EQ(check_writable("/dev/full"), OutputKind::kStream);
  EXPECT_EQ(check_writable("/dev/null"), OutputKind::kStream);
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(check_writable(folder / "pipe"), OutputKind::kStream);
  fs::create_symlink("/dev/full", folder / "link");
  EXPECT_EQ(check_writable(folder / "link"), OutputKind::kStream);

  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string name = (folder / "socket").string();
  ASSERT_LT(name.size(), sizeof address.sun_path);
  std::memcpy(address.sun_path, name.data(), name.size());
  ASSERT_EQ(::bind(socket, reinterpret_cast<struct sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(check_writable(folder / "socket"), OutputKind::kStream);
  ::close(socket);
}

TEST(CheckWritable, the_name_of_an_open_file_is_a_stream_though_a_regular_file_is_behind) {
  const TemporaryFolder folder;
  const int descriptor = ::open(folder.write("redirected", "").c_str(), O_WRONLY);
  ASSERT_GE(descriptor, 0);
  EXPECT_EQ(check_writable("/proc/self/fd/" + std::to_string(descriptor)), OutputKind::kStream);
  EXPECT_EQ(check_writable("/dev/fd/" + std::to_string(descriptor)), OutputKind::kStream);
  ::close(descriptor);
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { check_writable("/dev/fd/" + std::to_string(descriptor)); }),
              HasSubstr("cannot be written"));
}

TEST(CheckWritable, names_what_cannot_be_written) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { check_writable(folder.path()); }), HasSubstr("is a folder"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { check_writable(folder.path().string() + "/new/"); }),
              HasSubstr("is a folder"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { check_writable(folder / "missing/song.wav"); }),
              HasSubstr("there is no folder"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { check_writable(folder.write("file", "") / "song.wav"); }),
              HasSubstr("is a file, not a folder"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { check_writable(""); }), HasSubstr("empty"));
}

TEST(CheckWritable, names_missing_permission) {
  const TemporaryFolder folder;
  const fs::path protected_file = folder.write("open/protected.wav", "");
  fs::permissions(protected_file, fs::perms::owner_read);
  fs::permissions(folder / "open", fs::perms::all);
  fs::create_directory(folder / "closed");
  fs::permissions(folder / "closed", fs::perms::owner_exec | fs::perms::group_exec | fs::perms::others_exec);
  fs::permissions(folder.path(), fs::perms::all);
  const PlainUser user;
  if (!user.works()) GTEST_SKIP() << "cannot give up the rights of root";
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { check_writable(folder / "closed/song.wav"); }),
              HasSubstr("closed is not writable: Permission denied"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { check_writable(protected_file); }),
              HasSubstr("not writable: Permission denied"));
  EXPECT_EQ(check_writable(folder / "open/song.wav"), OutputKind::kRegular);
}

TEST(OutputDescriptor, is_what_a_name_stands_for_without_asking_the_system) {
  EXPECT_EQ(output_descriptor("/dev/stdout"), 1);
  EXPECT_EQ(output_descriptor("/dev/../dev/stderr"), 2);
  EXPECT_EQ(output_descriptor("/dev/fd/7"), 7);
  EXPECT_EQ(output_descriptor("/dev/null"), std::nullopt);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const fs::path writing = "/dev/fd/" + std::to_string(ends[1]);
  EXPECT_TRUE(is_stream(writing));
  EXPECT_EQ(check_writable(writing), OutputKind::kStream);
  ::close(ends[0]);
  ::close(ends[1]);
  EXPECT_FALSE(is_stream(writing));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { check_writable(writing); }), HasSubstr("cannot be written"));
}

}  // namespace
}  // namespace heartmula
