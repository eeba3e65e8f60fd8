// The cpus that this process may use, how fast they are, and what they share. NUMA is left to the system.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace heartmula {

/// A logical processor.
struct Cpu {
  int id = 0;        // the system's number
  int core = 0;      // the same for the cpus of one core (SMT siblings): the lowest number of them
  int cluster = 0;   // the same for the cpus that share the last level of cache: the lowest number of them
  double speed = 1;  // as a share of the fastest that this process may use; 1 for all if the system does not say

  bool operator==(const Cpu&) const = default;
};

struct CpuTopology {
  std::vector<Cpu> cpus;     // that this process may use, in ascending order, at least one
  std::vector<int> present;  // numbers of all cpus of the machine that are switched on
  int64_t cache_bytes = 0;   // last level of cache of all clusters together; 0 if the system does not say
  int quota = 0;             // cpus' worth of time that the cgroup grants, rounded up; 0: no limit
};

/// As it is now for the calling thread, which bequeaths its affinity to the threads that it starts.
CpuTopology cpu_topology();

/// One cpu of each core, the fastest cores first, those of about one speed taken from each cluster in turn; then, in
/// the same order, the second cpu of each core, and so on.
std::vector<int> cpus_in_order(const CpuTopology& topology);
/// Physical cores.
int core_count(const CpuTopology& topology);
/// How many of the cpus in order to use if nobody says: one of each core, and no more than the quota.
int default_cpu_count(const CpuTopology& topology);

/// "0-3,8" of ascending numbers.
std::string cpu_list_text(const std::vector<int>& cpus);

namespace detail {
/// `affinity`: the cpus that the system would let the thread run on; all if empty.
CpuTopology cpu_topology(const std::filesystem::path& root, std::vector<int> affinity);
/// Cores that the CPU quota of this process' cgroup (v2 or v1) and of those above it allow, rounded up; 0 for no limit.
int cgroup_cpu_limit(const std::filesystem::path& root);
}  // namespace detail

}  // namespace heartmula
