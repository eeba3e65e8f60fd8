// Which cpus a thread may run on.
#pragma once

#include <span>
#include <thread>
#include <vector>

namespace heartmula {

/// Of the calling thread, ascending; empty if the system does not say.
std::vector<int> affinity();

/// False if the system refuses.
bool set_affinity(std::span<const int> cpus);
bool set_affinity(std::thread& thread, std::span<const int> cpus);

/// Gives the calling thread back the cpus that it had: for calls into the library, which may pin their thread.
class AffinityGuard {
 public:
  AffinityGuard() : before_(affinity()) {}
  ~AffinityGuard() { set_affinity(before_); }
  AffinityGuard(const AffinityGuard&) = delete;
  AffinityGuard& operator=(const AffinityGuard&) = delete;

 private:
  std::vector<int> before_;
};

}  // namespace heartmula
