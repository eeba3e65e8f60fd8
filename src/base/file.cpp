#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/same_file.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;

/// "No space left on device"
std::string system_message(int error) {
  return std::generic_category().message(error);
}

class Descriptor {
 public:
  explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
  ~Descriptor() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

[[noreturn]] void throw_open_error(const fs::path& path, int error) {
  if (error == ENOENT || error == ENOTDIR) throw user_error("{}: no such file", path.string());
  if (error == EACCES || error == EPERM) throw user_error("{}: not readable: permission denied", path.string());
  throw user_error("{}: cannot be opened: {}", path.string(), system_message(error));
}

/// Opens a regular file; O_NONBLOCK so that a pipe without a writer is refused and not waited for.
int open_regular(const fs::path& path, uint64_t* size) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) throw_open_error(path, errno);
  struct stat status = {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    throw user_error("{}: is {}", path.string(),
                     S_ISDIR(status.st_mode) ? "a folder, not a file" : "not a regular file");
  }
  *size = static_cast<uint64_t>(status.st_size);
  return descriptor;
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

/// The first thing above `path` that is there: perhaps a file in the place of a folder.
fs::path file_above(const fs::path& path) {
  fs::path above = folder_of(path);
  std::error_code ignored;
  while (!fs::exists(above, ignored) && above.has_relative_path() && above.has_parent_path()) {
    above = above.parent_path();
  }
  return above;
}

void sync_folder(const fs::path& folder) {
  const Descriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems cannot sync a folder (EINVAL); then the rename is as durable as they make it.
  if (descriptor.get() >= 0 && ::fsync(descriptor.get()) != 0 && errno == EIO) {
    throw failure("{}: {}", folder.string(), system_message(EIO));
  }
}

/// Of `path`, which could not be created in its folder.
[[noreturn]] void throw_create_error(const fs::path& path, int error) {
  const std::string folder = folder_of(path).string();
  switch (error) {
    case ENOENT:
      throw user_error("{}: there is no folder {}", path.string(), folder);
    case ENOTDIR:
      throw user_error("{}: {} is a file, not a folder", path.string(), file_above(path).string());
    case EACCES:
    case EPERM:
    case EROFS:
      throw user_error("{}: the folder {} is not writable: {}", path.string(), folder, system_message(error));
    case ENAMETOOLONG:
      throw user_error("{}: the name is too long", path.string());
    default:
      throw failure("{}: {}", path.string(), system_message(error));
  }
}

/// Calls open(name), which creates what it opens, with "PATH.tmp-PID" and so on until there is none of that name yet,
/// and locks it: the lock says that its writer lives. Returns the name and the descriptor.
template <typename Open>
std::pair<fs::path, int> create_beside(const fs::path& path, const Open& open) {
  const std::string base = fmt::format("{}.tmp-{}", path.string(), ::getpid());
  for (int attempt = 0;; ++attempt) {
    fs::path name = attempt == 0 ? base : fmt::format("{}-{}", base, attempt);
    const int descriptor = open(name);
    if (descriptor < 0) {
      if (errno != EEXIST && errno != EINTR) throw_create_error(path, errno);
      continue;
    }
    const bool is_taken = ::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (!is_taken && names_open_file(name, descriptor)) return {std::move(name), descriptor};
    ::close(descriptor);  // remove_abandoned was faster than the lock
  }
}

/// What create_beside made and nobody holds any more. Where files cannot be locked, nothing.
void remove_abandoned(const fs::path& path) {
  const std::string prefix = path.filename().string() + ".tmp-";
  std::error_code error;
  for (fs::directory_iterator entry(folder_of(path), error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    const fs::path& name = entry->path();
    const std::string file = name.filename().string();
    if (!file.starts_with(prefix) || file.find_first_not_of("0123456789-", prefix.size()) != std::string::npos)
      continue;
    std::error_code ignored;
    const fs::file_status status = entry->symlink_status(ignored);
    if (!fs::is_regular_file(status) && !fs::is_directory(status)) continue;
    const int access = fs::is_directory(status) ? O_RDONLY : O_RDWR;  // NFS wants to write what it locks
    const Descriptor descriptor(::open(name.c_str(), access | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (descriptor.get() < 0 || ::flock(descriptor.get(), LOCK_EX | LOCK_NB) != 0) continue;
    fs::remove_all(name, ignored);
  }
}

/// stat() of what an output's name stands for; returns 0, or -1 with errno.
int look_at_output(const fs::path& path, struct stat* status) {
  const std::optional<int> descriptor = output_descriptor(path);
  return descriptor ? ::fstat(*descriptor, status) : ::stat(path.c_str(), status);
}

/// Mode and owner of the file that is replaced.
void take_over_rights(int descriptor, const struct stat& old) {
  mode_t mode = old.st_mode & 07777;
  // Without its group the group's rights would go to another one.
  const bool same_group = ::fchown(descriptor, old.st_uid, old.st_gid) == 0 ||
                          ::fchown(descriptor, static_cast<uid_t>(-1), old.st_gid) == 0;
  if (!same_group) mode &= ~mode_t{S_IRWXG};
  // A file system without modes has none to take over.
  if (::fchmod(descriptor, mode) != 0) errno = 0;
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const fs::path& path) {
  uint64_t size = 0;
  const Descriptor descriptor(open_regular(path, &size));
  std::shared_ptr<MappedFile> file(new MappedFile);
  if (size == 0) return file;
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor.get(), 0);
  if (data == MAP_FAILED) throw failure("{}: cannot be mapped: {}", path.string(), system_message(errno));
  file->bytes_ = {static_cast<const std::byte*>(data), size};
  return file;
}

std::shared_ptr<const MappedFile> MappedFile::repeating(std::span<const std::byte> pattern, size_t bytes) {
  const auto fail = [](const char* what) { return failure("{}: {}", what, system_message(errno)); };
  const Descriptor descriptor(::memfd_create("pattern", MFD_CLOEXEC));
  if (descriptor.get() < 0) throw fail("no memory file");
  if (::write(descriptor.get(), pattern.data(), pattern.size()) != static_cast<ssize_t>(pattern.size())) {
    throw fail("memory file");
  }
  std::shared_ptr<MappedFile> file(new MappedFile);
  void* data = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) throw fail("address space");
  file->bytes_ = {static_cast<const std::byte*>(data), bytes};
  for (size_t begin = 0; begin < bytes; begin += pattern.size()) {
    const size_t count = std::min(pattern.size(), bytes - begin);
    if (::mmap(static_cast<std::byte*>(data) + begin, count, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor.get(), 0) ==
        MAP_FAILED) {
      throw fail("memory file cannot be mapped");
    }
  }
  return file;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void MappedFile::release(std::span<const std::byte> part) const {
  if (part.empty()) return;
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const auto start = static_cast<size_t>(part.data() - bytes_.data());  // the mapping itself begins at a page
  const size_t end = start + part.size();
  const size_t first = (start + page - 1) / page * page;
  const size_t last = end == bytes_.size() ? end : end / page * page;
  if (first < last) ::madvise(const_cast<std::byte*>(bytes_.data()) + first, last - first, MADV_DONTNEED);
}

std::string instead_of_folder(const fs::path& path) {
  std::error_code ignored;
  if (fs::exists(path, ignored)) return "is a file, not a folder";
  const fs::path above = file_above(path);
  const bool is_below_file = fs::exists(above, ignored) && !fs::is_directory(above, ignored);
  return is_below_file ? message("no such folder, for {} is a file", above.string()) : "no such folder";
}

std::string read_file(const fs::path& path, size_t max_bytes) {
  uint64_t size = 0;
  const Descriptor descriptor(open_regular(path, &size));
  std::string contents;
  // Files below /proc and /sys say that they are empty, so the size is a hint and the end is where read() says so.
  size_t capacity = std::max<size_t>(size + 1, 4096);
  size_t used = 0;
  while (true) {
    if (size > max_bytes || used > max_bytes) {
      throw user_error("{}: larger than the {} bytes that such a file may have", path.string(), max_bytes);
    }
    if (used == capacity) capacity *= 2;
    contents.resize(capacity);
    const ssize_t count = ::read(descriptor.get(), contents.data() + used, capacity - used);
    if (count < 0) {
      if (errno == EINTR) continue;
      throw failure("{}: {}", path.string(), system_message(errno));
    }
    if (count == 0) break;
    used += static_cast<size_t>(count);
  }
  contents.resize(used);
  return contents;
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  std::error_code ignored;
  if (fs::is_symlink(path_, ignored)) path_ = place_of(path_);
  if (fs::is_symlink(path_, ignored)) throw user_error("{}: is a link that leads to itself", path_.string());
  if (!path_.has_filename() || fs::is_directory(path_, ignored)) {
    throw user_error("{}: is a folder; name a file in it", path_.string());
  }
  const mode_t mode = fs::exists(path_, ignored) ? 0600 : 0666;  // commit() takes over the rights of what is there
  std::tie(temporary_, descriptor_) = create_beside(path_, [mode](const fs::path& name) {
    return ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  });
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0) {
      if (errno == EINTR) continue;
      throw failure("{}: {}", path_.string(), system_message(errno));
    }
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

void AtomicFile::commit(bool sync) {
  struct stat old = {};
  if (::stat(path_.c_str(), &old) == 0) take_over_rights(descriptor_, old);
  const Descriptor lock(::fcntl(descriptor_, F_DUPFD_CLOEXEC, 0));  // until it has its name
  if (sync && ::fsync(descriptor_) != 0) throw failure("{}: {}", path_.string(), system_message(errno));
  // Some file systems report a full disk only here.
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) {
    throw failure("{}: {}", path_.string(), system_message(errno));
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    throw failure("{}: {}", path_.string(), system_message(errno));
  }
  temporary_.clear();
  if (sync) sync_folder(folder_of(path_));
}

void write_file(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(text)));
  file.commit(true);
}

AtomicFolder::AtomicFolder(const fs::path& path) : path_(path.lexically_normal()) {
  if (!path_.has_filename()) path_ = path_.parent_path();  // "folder/"
  if (path_.empty()) throw user_error("the path of the output is empty");
  std::error_code ignored;
  if (fs::exists(fs::symlink_status(path_, ignored)) &&
      !(fs::is_directory(path_, ignored) && fs::is_empty(path_, ignored))) {
    throw user_error("{}: is there already; name a new folder, or remove it first", path_.string());
  }
  remove_abandoned(path_);
  std::tie(temporary_, descriptor_) = create_beside(path_, [](const fs::path& name) {
    return ::mkdir(name.c_str(), 0777) == 0 ? ::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
  });
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
  if (descriptor_ >= 0) ::close(descriptor_);
}

void AtomicFolder::commit() {
  sync_folder(temporary_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    throw failure("{}: {}", path_.string(), system_message(errno));
  }
  temporary_.clear();
  sync_folder(folder_of(path_));
}

bool names_descriptor(const fs::path& path) {
  const std::string name = path.lexically_normal().string();
  return name == "/dev/stdout" || name == "/dev/stderr" || name.starts_with("/dev/fd/") || name.starts_with("/proc/");
}

bool is_stream(const fs::path& path) {
  struct stat status = {};
  return look_at_output(path, &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

std::optional<int> numbered_descriptor(std::string_view path) {
  for (const std::string_view folder : {"/dev/fd/", "/proc/self/fd/"}) {
    if (!path.starts_with(folder)) continue;
    int descriptor = 0;
    const char* end = path.data() + path.size();
    const auto result = std::from_chars(path.data() + folder.size(), end, descriptor);
    if (result.ec == std::errc() && result.ptr == end) return descriptor;
  }
  return std::nullopt;
}

std::optional<int> output_descriptor(const fs::path& path) {
  const std::string name = path.lexically_normal().string();
  if (name == "/dev/stdout") return STDOUT_FILENO;
  if (name == "/dev/stderr") return STDERR_FILENO;
  return numbered_descriptor(name);
}

bool names_open_file(const fs::path& path, int descriptor) {
  struct stat named = {};
  struct stat open = {};
  return ::stat(path.c_str(), &named) == 0 && ::fstat(descriptor, &open) == 0 && named.st_dev == open.st_dev &&
         named.st_ino == open.st_ino;
}

OutputKind check_writable(const fs::path& path) {
  if (path.empty()) throw user_error("the path of the output is empty");
  const auto check_regular = [&path] {
    remove_abandoned(place_of(path));
    const AtomicFile probe(path);
    return OutputKind::kRegular;
  };
  struct stat status = {};
  if (look_at_output(path, &status) != 0) {
    const int error = errno;
    const bool may_be_made = error == ENOENT || error == ENOTDIR;  // which says what is in the way
    if (!may_be_made || names_descriptor(path)) {
      throw user_error("{}: cannot be written: {}", path.string(), system_message(error));
    }
    return check_regular();
  }
  if (S_ISDIR(status.st_mode)) throw user_error("{}: is a folder; name a file in it", path.string());
  if (!output_descriptor(path) && ::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) != 0) {
    throw user_error("{}: not writable: {}", path.string(), system_message(errno));
  }
  if (!S_ISREG(status.st_mode) || names_descriptor(path)) return OutputKind::kStream;
  return check_regular();
}

}  // namespace heartmula
