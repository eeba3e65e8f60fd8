#include "cpu/memory.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>

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
  // Advice: no harm where there are none. The rest in small pages, for a huge one counts as a whole.
  if (big) madvise(data, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
  return {data, std::free};
}

std::shared_ptr<void> allocate_zeroed(size_t bytes) {
  if (bytes < 2 * kHugePage) {
    std::shared_ptr<void> small = allocate_aligned(bytes);
    std::memset(small.get(), 0, bytes);
    return small;
  }
  const size_t size = bytes + kHugePage;  // wherever it lies, an aligned place is in it
  void* mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw failure("out of memory: {} bytes asked for", bytes);
  void* data = mapped;
  size_t space = size;
  std::align(kHugePage, bytes, data, space);
  madvise(data, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
  return {data, [mapped, size](void*) { ::munmap(mapped, size); }};
}

void lock_memory(const void* data, size_t bytes) {
  if (::mlock(data, bytes) == 0) return;
  const int error = errno;
  rlimit limit = {};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  if (limit.rlim_cur == RLIM_INFINITY) {
    throw user_error("--mlock: the weights cannot be locked in memory: {}; leave --mlock out",
                     std::generic_category().message(error));
  }
  throw user_error(
      "--mlock: this process may lock only {:.3f} GB in memory; raise the limit (`ulimit -l unlimited`, memlock in "
      "/etc/security/limits.conf, LimitMEMLOCK=infinity of a service), or leave --mlock out",
      static_cast<double>(limit.rlim_cur) * 1e-9);
}

void Scratch::reserve(size_t bytes) {
  if (bytes <= bytes_) return;
  data_.reset();  // before the new memory, not beside it
  bytes_ = 0;
  data_ = allocate_aligned(bytes);
  bytes_ = bytes;
}

}  // namespace heartmula::cpu
