// What a user names to be read: a file, or a stream of this moment.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace heartmula {

/// A path as a user gave it: "~" and what begins with "~/" are below $HOME, also where no shell has expanded them
/// (--save_path=~/song.wav). Everything else stays, "~user" too.
std::filesystem::path expand_home(std::string_view path);

enum class InputKind {
  kNothing,  ///< no such name, or none that the system can have
  kFile,     ///< a regular file
  kStream,   ///< can be read once: "-" (the standard input), a pipe such as <(...), a terminal, a socket
  kOther,    ///< a folder, a disk
};
InputKind input_kind(const std::filesystem::path& path);

/// All of a file, or of a stream until it ends. Throws Error(kUser) if there is nothing of this name, if it is a
/// folder, cannot be read, holds more than `max_bytes`, or is a stream without a byte (read before, perhaps), and
/// Error(kFailure) if a signal ends the wait.
std::string read_input(const std::filesystem::path& path, size_t max_bytes = size_t{1} << 30);

/// What messages call it: the path, or "standard input".
std::string input_name(const std::filesystem::path& path);

class MappedFile;

/// All of a file, mapped, or of a stream, read until it ends: what may be looked at more than once.
class InputBytes {
 public:
  /// Throws as MappedFile::open() and read_input() do.
  explicit InputBytes(std::filesystem::path path);

  std::span<const std::byte> bytes() const;
  const std::filesystem::path& path() const { return path_; }
  std::string name() const { return input_name(path_); }
  bool is_stream() const { return file_ == nullptr; }

 private:
  std::filesystem::path path_;
  std::shared_ptr<const MappedFile> file_;
  std::string contents_;  // of a stream
};

}  // namespace heartmula
