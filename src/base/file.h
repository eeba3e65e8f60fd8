// Files: mapped for reading, replaced atomically when written.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace heartmula {

/// A read-only memory map of a whole regular file.
class MappedFile {
 public:
  /// Throws Error(kUser) "PATH: no such file" and the like.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  /// `bytes` bytes that repeat `pattern` (whole pages of it) over and over but hold it in memory once.
  static std::shared_ptr<const MappedFile> repeating(std::span<const std::byte> pattern, size_t bytes);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  /// Gives the whole pages inside `part` (of bytes()) back to the system; they are read again when touched.
  void release(std::span<const std::byte> part) const;

 private:
  MappedFile() = default;
  std::span<const std::byte> bytes_;
};

/// What stands where a folder should: "no such folder", or "is a file, not a folder".
std::string instead_of_folder(const std::filesystem::path& path);

/// The contents of a regular file. Throws Error(kUser) if it is missing, a folder, not readable, or larger than
/// `max_bytes`.
std::string read_file(const std::filesystem::path& path, size_t max_bytes = size_t{1} << 30);

/// Writes beside `path` and takes its place when finished: a reader sees the old file or the new one, whole. The mode
/// of a file that is there stays, and its owner where the system allows it; the file behind a link is replaced or
/// created, not the link.
class AtomicFile {
 public:
  /// Creates "PATH.tmp-PID" (a unique name), locked as long as this lives. Throws Error(kUser) if the folder is missing
  /// or not writable.
  explicit AtomicFile(std::filesystem::path path);
  /// Removes the temporary file if commit() was not reached.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::filesystem::path& temporary_path() const { return temporary_; }
  /// Throws Error(kFailure) "PATH: No space left on device".
  void write(std::span<const std::byte> bytes);
  /// Renames to the final path; with `sync` the data and the folder's entry are on the disk when it returns.
  void commit(bool sync);

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

/// Replaces `path` by a file that holds `text`; it is on the disk when this returns. Throws like AtomicFile.
void write_file(const std::filesystem::path& path, std::string_view text);

/// A new folder that is filled beside `path` and takes its place when finished: nobody sees half of it.
class AtomicFolder {
 public:
  /// Creates "PATH.tmp-PID" (a unique name), locked as long as this lives, and removes those that killed programs left.
  /// Throws Error(kUser) if `path` is there already and not an empty folder, or if the folder above it is missing or
  /// not writable.
  explicit AtomicFolder(const std::filesystem::path& path);
  /// Removes the temporary folder with all that is in it if commit() was not reached.
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::filesystem::path& temporary_path() const { return temporary_; }
  /// Renames to the final path, which is on the disk when it returns.
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;  // has the lock
};

/// What the destination of an output is: only a regular file can be replaced atomically.
enum class OutputKind { kRegular, kStream };
/// Throws Error(kUser) if nothing can be written there: missing folder, a folder itself, no permission. Creates
/// nothing that stays, and removes the temporary files that killed programs left beside it. A pipe, a device or a
/// socket is kStream.
OutputKind check_writable(const std::filesystem::path& path);

/// Whether `path` is a name of one of this process' open files, such as /dev/stdout: what such a name stands for is
/// written to, never replaced.
bool names_descriptor(const std::filesystem::path& path);
/// Whether there is a pipe, a device or a socket of this name.
bool is_stream(const std::filesystem::path& path);
/// 7 of "/dev/fd/7" and "/proc/self/fd/7"; nothing of another name.
std::optional<int> numbered_descriptor(std::string_view path);
/// The same, and 1 and 2 of /dev/stdout and /dev/stderr: these names work where the system has no /proc, too.
std::optional<int> output_descriptor(const std::filesystem::path& path);
/// Whether `path` still is the file, or folder, that is open as `descriptor`.
bool names_open_file(const std::filesystem::path& path, int descriptor);

}  // namespace heartmula
