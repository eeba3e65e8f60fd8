// A file for what does not fit into memory for a while.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace heartmula {

/// It has no name, so that it is gone with its owner or with the process. Written from the beginning to the end, then
/// read likewise.
class SwapFile {
 public:
  /// Throws Error(kUser) if nothing can be written in `folder`.
  explicit SwapFile(const std::filesystem::path& folder);
  ~SwapFile();
  SwapFile(const SwapFile&) = delete;
  SwapFile& operator=(const SwapFile&) = delete;

  /// Appends; the disk writes it while the program goes on. Throws Error(kFailure) "FOLDER: No space left on device".
  void write(std::span<const std::byte> bytes);
  /// What was written and not yet read. Throws Error(kFailure).
  void read(std::span<std::byte> bytes);
  int64_t size() const { return size_; }

 private:
  std::filesystem::path folder_;
  int descriptor_ = -1;
  int64_t size_ = 0;
  int64_t read_ = 0;
};

}  // namespace heartmula
