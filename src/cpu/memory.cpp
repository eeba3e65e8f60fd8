#include "cpu/memory.h"

#include <sys/mman.h>

#include <cstdlib>

#include "base/error.h"

namespace heartmula::cpu {
namespace {

constexpr size_t kCacheLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

std::shared_ptr<void> allocate_aligned(size_t bytes) {
  const bool big = bytes >= 2 * kHugePage;
  const size_t alignment = big ? kHugePage : kCacheLine;
  const size_t size = (bytes + alignment) / alignment * alignment;  // never 0
  void* data = std::aligned_alloc(alignment, size);
  if (data == nullptr) throw failure("out of memory: {} bytes asked for", bytes);
  if (big) madvise(data, size, MADV_HUGEPAGE);  // advice: no harm where there are none
  return {data, std::free};
}

void Scratch::reserve(size_t bytes) {
  if (bytes <= bytes_) return;
  data_.reset();  // before the new memory, not beside it
  bytes_ = 0;
  data_ = allocate_aligned(bytes);
  bytes_ = bytes;
}

}  // namespace heartmula::cpu
