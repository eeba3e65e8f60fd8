#include "base/affinity.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <memory>

namespace heartmula {
namespace {

constexpr int kMostCpus = 65536;

/// A set of any size: cpu_set_t ends at 1024.
class CpuSet {
 public:
  explicit CpuSet(int size) : set_(CPU_ALLOC(static_cast<size_t>(size))), size_(size), bytes_(CPU_ALLOC_SIZE(size)) {
    CPU_ZERO_S(bytes_, set_);
  }
  ~CpuSet() { CPU_FREE(set_); }
  CpuSet(const CpuSet&) = delete;
  CpuSet& operator=(const CpuSet&) = delete;

  cpu_set_t* get() { return set_; }
  size_t bytes() const { return bytes_; }
  void add(int cpu) { CPU_SET_S(static_cast<size_t>(cpu), bytes_, set_); }
  std::vector<int> list() const {
    std::vector<int> cpus;
    for (int cpu = 0; cpu < size_; ++cpu) {
      if (CPU_ISSET_S(static_cast<size_t>(cpu), bytes_, set_)) cpus.push_back(cpu);
    }
    return cpus;
  }

 private:
  cpu_set_t* set_;
  int size_;
  size_t bytes_;
};

bool set_affinity(pthread_t thread, std::span<const int> cpus) {
  if (cpus.empty()) return false;
  CpuSet set(std::ranges::max(cpus) + 1);
  for (const int cpu : cpus) set.add(cpu);
  return pthread_setaffinity_np(thread, set.bytes(), set.get()) == 0;
}

}  // namespace

std::vector<int> affinity() {
  for (int size = 1024; size <= kMostCpus; size *= 2) {
    CpuSet set(size);
    if (sched_getaffinity(0, set.bytes(), set.get()) == 0) return set.list();
    if (errno != EINVAL) break;  // EINVAL: the machine has more
  }
  return {};
}

bool set_affinity(std::span<const int> cpus) {
  return set_affinity(pthread_self(), cpus);
}

bool set_affinity(std::thread& thread, std::span<const int> cpus) {
  return set_affinity(thread.native_handle(), cpus);
}

}  // namespace heartmula
