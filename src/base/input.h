// What a user names to be read: a file, or a stream of this moment.
#pragma once

#include <cstddef>
#include <filesystem>
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

}  // namespace heartmula
