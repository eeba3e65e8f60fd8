// One program at a time writes an output.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>

namespace heartmula {

/// While it lives, no other has a lock on an output of this name, in this process or another one, whatever way the name
/// takes and whether or not the output exists. Holds ".NAME.heartmula-lock" beside the output, which goes with it; one
/// that a killed program left holds nothing and goes with the next lock in the folder, whatever that is of.
class OutputLock {
 public:
  /// `path`: a file or folder to be. Throws Error(kUser) "PATH: another heartmula is writing there; choose another
  /// FLAG, or wait". Where nothing can be locked (a stream, a folder that is missing, a file system without locks) it
  /// is none.
  OutputLock(const std::filesystem::path& path, std::string_view flag);
  /// Nothing if another one has the lock.
  static std::optional<OutputLock> if_free(const std::filesystem::path& path);
  ~OutputLock();
  OutputLock(OutputLock&& other) noexcept;
  OutputLock(const OutputLock&) = delete;
  OutputLock& operator=(const OutputLock&) = delete;
  OutputLock& operator=(OutputLock&&) = delete;

 private:
  explicit OutputLock(std::filesystem::path file) : file_(std::move(file)) {}
  bool take();

  std::filesystem::path file_;
  int descriptor_ = -1;
};

}  // namespace heartmula
