// One program at a time writes an output.
#pragma once

#include <filesystem>
#include <string_view>

namespace heartmula {

/// While it lives, no other has a lock on an output of this name, in this process or another one, whatever way the name
/// takes and whether or not the output exists. Holds ".NAME.heartmula-lock" beside the output, which goes with it; one
/// that a killed program left holds nothing and goes with the next lock.
class OutputLock {
 public:
  /// `path`: a file or folder to be. Throws Error(kUser) "PATH: another heartmula is writing there; choose another
  /// FLAG, or wait". Where nothing can be locked (a stream, a folder that is missing, a file system without locks) it
  /// is none.
  OutputLock(const std::filesystem::path& path, std::string_view flag);
  ~OutputLock();
  OutputLock(OutputLock&& other) noexcept;
  OutputLock(const OutputLock&) = delete;
  OutputLock& operator=(const OutputLock&) = delete;
  OutputLock& operator=(OutputLock&&) = delete;

 private:
  std::filesystem::path file_;
  int descriptor_ = -1;
};

}  // namespace heartmula
