// How many threads a pool gets, and on which cpus.
#pragma once

#include <string>
#include <vector>

#include "base/cpu_topology.h"

namespace heartmula {

struct CpuChoice {
  int threads = 1;
  std::vector<int> cpus;   // the best ones first; if pinned, thread i stays on the i-th
  bool pinned = false;     // or else the system places the threads
  bool automatic = false;  // neither threads nor cpus were asked for
};

/// `threads` 0: one for each core and no more than the quota, or one for each cpu of a list. `list`: "0-3,8", "fastest"
/// for the fastest ones first and a core each, or empty for no pinning. Throws Error(kUser) for a list that is none,
/// cpus that do not exist or may not be used, and more threads than the list has cpus.
CpuChoice choose_cpus(const CpuTopology& topology, int threads, const std::string& list);

/// The environment variable HEARTMULA_THREADS, for those who give no number; 0 if it is not set. Throws Error(kUser) if
/// it is no positive number.
int threads_from_environment();

}  // namespace heartmula
