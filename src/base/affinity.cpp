#include "base/affinity.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <utility>

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

bool set_affinity(pthread_t thread, const std::vector<int>& cpus) {
  CpuSet set(std::ranges::max(cpus) + 1);
  for (const int cpu : cpus) set.add(cpu);
  return pthread_setaffinity_np(thread, set.bytes(), set.get()) == 0;
}

std::vector<int> affinity_now() {
  for (int size = 1024; size <= kMostCpus; size *= 2) {
    CpuSet set(size);
    if (sched_getaffinity(0, set.bytes(), set.get()) == 0) return set.list();
    if (errno != EINVAL) break;  // EINVAL: the machine has more
  }
  return {};
}

struct Pin {
  int cpu = -1;
  std::vector<int> before;
};
thread_local Pin pin;

}  // namespace

std::vector<int> affinity() {
  return pin.cpu >= 0 ? pin.before : affinity_now();
}

bool pin_thread(int cpu) {
  if (pin.cpu == cpu) return true;
  std::vector<int> before = affinity();
  if (!set_affinity(pthread_self(), {cpu})) return false;
  pin = {cpu, std::move(before)};
  return true;
}

bool pin_thread(std::thread& thread, int cpu) {
  return set_affinity(thread.native_handle(), {cpu});
}

void unpin_thread() {
  if (pin.cpu < 0) return;
  if (!pin.before.empty()) set_affinity(pthread_self(), pin.before);
  pin = {};
}

}  // namespace heartmula
