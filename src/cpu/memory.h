// Aligned memory that asks for huge pages when it is big.
#pragma once

#include <cstddef>
#include <memory>

namespace heartmula::cpu {

/// At least 64-byte aligned, not initialised. Throws Error(kFailure) when there is no memory.
std::shared_ptr<void> allocate_aligned(size_t bytes);

/// Zeros, of which only what is written takes memory.
std::shared_ptr<void> allocate_zeroed(size_t bytes);

/// Keeps `bytes` at `data` in memory, reading them first if they are in a file. Throws Error(kUser) if the system
/// allows this process no more.
void lock_memory(const void* data, size_t bytes);

/// Memory that only grows; its content is lost when it does.
class Scratch {
 public:
  void reserve(size_t bytes);
  void* data() const { return data_.get(); }

 private:
  std::shared_ptr<void> data_;
  size_t bytes_ = 0;
};

}  // namespace heartmula::cpu
