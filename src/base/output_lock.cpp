#include "base/output_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/same_file.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;

/// Empty for what cannot be locked.
fs::path lock_file_of(const fs::path& path) {
  if (path.empty() || is_stream(path) || names_descriptor(path)) return {};
  const fs::path place = place_of(path.has_filename() ? path : path.parent_path());  // "folder/"
  return place.parent_path() / fmt::format(".{}.heartmula-lock", place.filename().string());
}

}  // namespace

OutputLock::OutputLock(const fs::path& path, std::string_view flag) : file_(lock_file_of(path)) {
  while (!file_.empty()) {
    descriptor_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (descriptor_ < 0) return;
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) {
      if (names_open_file(file_, descriptor_)) return;
    } else {
      const int error = errno;
      ::close(std::exchange(descriptor_, -1));
      if (error != EWOULDBLOCK) return;
      throw user_error("{}: another heartmula is writing there; choose another {}, or wait", path.string(), flag);
    }
    ::close(std::exchange(descriptor_, -1));  // its owner removed it before it was locked
  }
}

OutputLock::OutputLock(OutputLock&& other) noexcept
    : file_(std::move(other.file_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

OutputLock::~OutputLock() {
  if (descriptor_ < 0) return;
  ::unlink(file_.c_str());  // before another can have the lock
  ::close(descriptor_);
}

}  // namespace heartmula
