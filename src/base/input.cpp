#include "base/input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;

/// The descriptor that `path` stands for: a socket cannot be opened again by name.
std::optional<int> descriptor_named(const fs::path& path) {
  const std::string name = path.string();
  if (name == "-" || name == "/dev/stdin") return STDIN_FILENO;
  return numbered_descriptor(name);
}

std::string read_stream(const fs::path& path, size_t max_bytes) {
  const auto named = descriptor_named(path);
  const int descriptor =
      named ? ::fcntl(*named, F_DUPFD_CLOEXEC, 0) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  const std::string name = input_name(path);
  const auto fail = [&](int error) {
    return failure("{}: cannot be read: {}", name, std::generic_category().message(error));
  };
  if (descriptor < 0) throw fail(errno);
  std::string contents;
  ssize_t count = 0;
  do {
    constexpr size_t kPiece = size_t{1} << 16;
    const size_t used = contents.size();
    contents.resize(used + kPiece);
    count = ::read(descriptor, contents.data() + used, kPiece);
    contents.resize(used + static_cast<size_t>(std::max<ssize_t>(count, 0)));
  } while (count > 0 && contents.size() <= max_bytes);
  const int error = errno;
  ::close(descriptor);
  if (count < 0) throw fail(error);
  if (contents.size() > max_bytes) {
    throw user_error("{}: more than the {} bytes that may come from there", name, max_bytes);
  }
  if (contents.empty()) {
    throw user_error("{}: nothing came from it; a stream can be read once, and this one is at its end", name);
  }
  return contents;
}

}  // namespace

fs::path expand_home(std::string_view path) {
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') return path;
  if (path == "~") return home;
  return path.starts_with("~/") ? fs::path(home) / path.substr(2) : fs::path(path);
}

InputKind input_kind(const fs::path& path) {
  if (path.empty() || path.native().find('\0') != std::string::npos) return InputKind::kNothing;
  struct stat status = {};
  const auto descriptor = descriptor_named(path);
  if ((descriptor ? ::fstat(*descriptor, &status) : ::stat(path.c_str(), &status)) != 0) return InputKind::kNothing;
  if (S_ISREG(status.st_mode)) return path == "-" ? InputKind::kStream : InputKind::kFile;
  const bool is_stream = S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode) || S_ISSOCK(status.st_mode);
  return is_stream ? InputKind::kStream : InputKind::kOther;
}

std::string input_name(const fs::path& path) {
  return path == "-" ? "standard input" : path.string();
}

InputBytes::InputBytes(fs::path path) : path_(std::move(path)) {
  if (input_kind(path_) == InputKind::kStream) {
    contents_ = read_input(path_);
  } else {
    file_ = MappedFile::open(path_);
  }
}

std::span<const std::byte> InputBytes::bytes() const {
  return file_ ? file_->bytes() : std::as_bytes(std::span(contents_));
}

std::string read_input(const fs::path& path, size_t max_bytes) {
  return input_kind(path) == InputKind::kStream ? read_stream(path, max_bytes) : read_file(path, max_bytes);
}

}  // namespace heartmula
