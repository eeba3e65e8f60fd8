#include "base/swap_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <system_error>

#include "base/error.h"

namespace heartmula {
namespace {

std::string last_error() {
  return std::generic_category().message(errno);
}

// Not every file system makes files without names.
int open_nameless(const std::filesystem::path& folder) {
  const int nameless = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (nameless >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return nameless;
  std::string name = folder / "heartmula-swap-XXXXXX";
  const int named = ::mkostemp(name.data(), O_CLOEXEC);
  if (named >= 0) ::unlink(name.c_str());
  return named;
}

}  // namespace

SwapFile::SwapFile(const std::filesystem::path& folder) : folder_(folder), descriptor_(open_nameless(folder)) {
  if (descriptor_ < 0) throw user_error("{}: {}", folder.string(), last_error());
}

SwapFile::~SwapFile() {
  ::close(descriptor_);
}

void SwapFile::write(std::span<const std::byte> bytes) {
  const int64_t begin = size_;
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(descriptor_, bytes.data(), bytes.size(), size_);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw failure("{}: {}", folder_.string(), last_error());
    size_ += count;
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  // Not all at once when memory is short, which it is.
  static_cast<void>(::sync_file_range(descriptor_, begin, size_ - begin, SYNC_FILE_RANGE_WRITE));
}

void SwapFile::read(std::span<std::byte> bytes) {
  if (read_ == 0) static_cast<void>(::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_SEQUENTIAL));
  const auto ahead = static_cast<int64_t>(8 * bytes.size());
  static_cast<void>(::posix_fadvise(descriptor_, read_, ahead, POSIX_FADV_WILLNEED));
  while (!bytes.empty()) {
    const ssize_t count = ::pread(descriptor_, bytes.data(), bytes.size(), read_);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw failure("{}: {}", folder_.string(), last_error());
    if (count == 0) throw failure("{}: the swapped keys and values end too early", folder_.string());
    read_ += count;
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

}  // namespace heartmula
