#include "base/captured_stderr.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <utility>

namespace heartmula {
namespace {

std::mutex& one_at_a_time() {
  static std::mutex mutex;
  return mutex;
}

}  // namespace

CapturedStderr::CapturedStderr() : turn_(one_at_a_time()) {
#ifndef HEARTMULA_SANITIZED
  instead_ = ::memfd_create("stderr", MFD_CLOEXEC);
  if (instead_ < 0) return;
  kept_ = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
  if (kept_ >= 0) ::dup2(instead_, STDERR_FILENO);
#endif
}

CapturedStderr::~CapturedStderr() {
  restore();
}

std::string CapturedStderr::end() {
  std::string text(size_t{1} << 12, '\0');
  const ssize_t count = instead_ < 0 ? 0 : ::pread(instead_, text.data(), text.size(), 0);
  text.resize(count < 0 ? 0 : static_cast<size_t>(count));
  restore();
  return text;
}

void CapturedStderr::restore() {
  if (kept_ >= 0) {
    ::dup2(kept_, STDERR_FILENO);
    ::close(std::exchange(kept_, -1));
  }
  if (instead_ >= 0) ::close(std::exchange(instead_, -1));
}

}  // namespace heartmula
