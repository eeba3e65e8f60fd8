#include "audio/output_stream.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

#include "base/error.h"

namespace heartmula {
namespace {

int open_output(const std::filesystem::path& path, OutputKind kind) {
  if (kind == OutputKind::kRegular) return ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  // It is duplicated, for a socket cannot be opened again by name, and a file would be written over from its start.
  if (const auto descriptor = output_descriptor(path)) {
    if ((::fcntl(*descriptor, F_GETFL) & O_ACCMODE) == O_RDONLY) {
      errno = EBADF;  // known now, not when a song is made
      return -1;
    }
    return ::fcntl(*descriptor, F_DUPFD_CLOEXEC, 0);
  }
  return ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
}

}  // namespace

OutputStream::OutputStream(const std::filesystem::path& path, OutputKind kind, const CancelToken* cancel)
    : kind_(kind),
      cancel_(cancel),
      descriptor_(open_output(path, kind)),
      has_random_access_(kind == OutputKind::kRegular) {
  if (descriptor_ < 0) throw failure("{}: {}", path.string(), std::generic_category().message(errno));
  struct stat status = {};
  if (::fstat(descriptor_, &status) != 0) return;
  if (kind == OutputKind::kRegular) {
    size_ = status.st_size;
  } else if (S_ISREG(status.st_mode) && (::fcntl(descriptor_, F_GETFL) & O_APPEND) == 0) {
    begin_ = ::lseek(descriptor_, 0, SEEK_CUR);
    has_random_access_ = begin_ >= 0;
  }
}

OutputStream::~OutputStream() {
  if (descriptor_ < 0) return;
  leave_at_end();
  ::close(descriptor_);
}

/// Who goes on writing to a standard output that is a file shares its position.
void OutputStream::leave_at_end() {
  if (kind_ == OutputKind::kStream && has_random_access_) ::lseek(descriptor_, begin_ + size_, SEEK_SET);
}

size_t OutputStream::read(void* bytes, size_t count) {
  if (kind_ == OutputKind::kStream) return 0;
  size_t done = 0;
  while (done < count) {
    const ssize_t got = ::pread(descriptor_, static_cast<char*>(bytes) + done, count - done, position_);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && error_ == 0) error_ = errno;
    if (got <= 0) break;
    done += static_cast<size_t>(got);
    position_ += got;
  }
  return done;
}

void OutputStream::write(const void* bytes, size_t count) {
  const auto* from = static_cast<const std::byte*>(bytes);
  if (error_ != 0) {
    // Nothing more is written.
  } else if (has_random_access_ || (head_left_ && position_ == size_)) {
    send(from, count);
  } else if (!head_left_ && position_ <= size_) {
    const auto at = static_cast<size_t>(position_);
    head_.resize(std::max(head_.size(), at + count));
    if (count > 0) std::memcpy(head_.data() + at, from, count);
    if (head_.size() > kHeadBytes) {
      if (edit_head_ != nullptr) edit_head_(head_);
      head_left_ = true;
      send(head_.data(), head_.size());
      head_.clear();
    }
  }
  position_ += static_cast<int64_t>(count);
  size_ = std::max(size_, position_);
}

/// Until the stream can take PIPE_BUF bytes; false if it was cancelled before.
bool OutputStream::wait_for_reader() const {
  constexpr int kLookMs = 50;  // for the token, which no system call waits for
  pollfd stream = {descriptor_, POLLOUT, 0};
  while (cancel_ == nullptr || !cancel_->cancelled()) {
    const int ready = ::poll(&stream, 1, kLookMs);
    if (ready > 0 || (ready < 0 && errno != EINTR)) return true;
  }
  return false;
}

void OutputStream::send(const std::byte* bytes, size_t count) {
  int64_t at = begin_ + position_;
  while (count > 0) {
    if (!has_random_access_ && !wait_for_reader()) {
      error_ = ECANCELED;
      return;
    }
    const ssize_t sent = has_random_access_ ? ::pwrite(descriptor_, bytes, count, at)
                                            : ::write(descriptor_, bytes, std::min<size_t>(count, PIPE_BUF));
    if (sent < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      error_ = errno;
      return;
    }
    bytes += sent;
    at += sent;
    count -= static_cast<size_t>(sent);
  }
}

void OutputStream::truncate(int64_t size) {
  if (error_ != 0) return;
  if (::ftruncate(descriptor_, size) != 0) {
    error_ = errno;
    return;
  }
  size_ = size;
}

void OutputStream::close() {
  if (descriptor_ < 0) return;
  if (!has_random_access_ && !head_left_ && error_ == 0) send(head_.data(), head_.size());
  head_left_ = true;
  leave_at_end();
  // EINTR: Linux has closed it all the same.
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR && error_ == 0) error_ = errno;
}

}  // namespace heartmula
