#include "base/output_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/same_file.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEnding = ".heartmula-lock";

/// Empty for what cannot be locked.
fs::path lock_file_of(const fs::path& path) {
  if (path.empty() || is_stream(path) || names_descriptor(path)) return {};
  const fs::path place = place_of(path.has_filename() ? path : path.parent_path());  // "folder/"
  return place.parent_path() / fmt::format(".{}{}", place.filename().string(), kEnding);
}

/// What killed programs left in the folder, of whatever output.
void remove_abandoned(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with('.') || !name.ends_with(kEnding)) continue;
    const int descriptor = ::open(entry->path().c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (descriptor < 0) continue;
    struct stat status = {};
    const bool is_lock = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && status.st_size == 0;
    if (is_lock && ::flock(descriptor, LOCK_EX | LOCK_NB) == 0) ::unlink(entry->path().c_str());
    ::close(descriptor);
  }
}

}  // namespace

OutputLock::OutputLock(const fs::path& path, std::string_view flag) : file_(lock_file_of(path)) {
  if (take()) return;
  throw user_error("{}: another heartmula is writing there; choose another {}, or wait", path.string(), flag);
}

std::optional<OutputLock> OutputLock::if_free(const fs::path& path) {
  OutputLock lock(lock_file_of(path));
  if (!lock.take()) return std::nullopt;
  return lock;
}

/// False if another one has the lock.
bool OutputLock::take() {
  if (!file_.empty()) remove_abandoned(file_.parent_path());
  while (!file_.empty()) {
    descriptor_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (descriptor_ < 0) return true;
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) {
      if (names_open_file(file_, descriptor_)) return true;
    } else {
      const int error = errno;
      ::close(std::exchange(descriptor_, -1));
      return error != EWOULDBLOCK;
    }
    ::close(std::exchange(descriptor_, -1));  // its owner removed it before it was locked
  }
  return true;
}

OutputLock::OutputLock(OutputLock&& other) noexcept
    : file_(std::move(other.file_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

OutputLock::~OutputLock() {
  if (descriptor_ < 0) return;
  ::unlink(file_.c_str());  // before another can have the lock
  ::close(descriptor_);
}

}  // namespace heartmula
