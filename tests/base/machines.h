// Machines as their sysfs shows them, for tests.
#pragma once

#include <string>

#include "base/testing.h"

namespace heartmula::machines {

struct CpuFiles {
  std::string siblings;       // of its core
  std::string cache_sharers;  // of the last level; empty: no folder cache
  int capacity = 0;           // 0: no file
  int max_khz = 0;            // 0: no file
  int cache_kb = 0;           // 0: no file
};

inline void write_cpu(const TemporaryFolder& root, int cpu, const CpuFiles& files) {
  const std::string folder = "sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/";
  root.write(folder + "topology/thread_siblings_list", files.siblings + "\n");
  if (!files.cache_sharers.empty()) {
    root.write(folder + "cache/index0/level", "1\n");
    root.write(folder + "cache/index0/shared_cpu_list", files.siblings + "\n");
    root.write(folder + "cache/index3/level", "3\n");
    root.write(folder + "cache/index3/shared_cpu_list", files.cache_sharers + "\n");
    if (files.cache_kb > 0) root.write(folder + "cache/index3/size", std::to_string(files.cache_kb) + "K\n");
  }
  if (files.capacity > 0) root.write(folder + "cpu_capacity", std::to_string(files.capacity) + "\n");
  if (files.max_khz > 0) root.write(folder + "cpufreq/cpuinfo_max_freq", std::to_string(files.max_khz) + "\n");
}

/// Two clusters with a cache each, in both first five Cortex-A725, then five Cortex-X925.
inline void write_gb10(const TemporaryFolder& root) {
  root.write("sys/devices/system/cpu/online", "0-19\n");
  for (int cpu = 0; cpu < 20; ++cpu) {
    const bool big = cpu % 10 >= 5;
    // The last core of each kind is a favoured one.
    const int capacity = big ? (cpu == 19 ? 1024 : 997) : 718;
    write_cpu(root, cpu,
              {.siblings = std::to_string(cpu),
               .cache_sharers = cpu < 10 ? "0-9" : "10-19",
               .capacity = capacity,
               .max_khz = big ? 3900000 : 2808000,
               .cache_kb = cpu < 10 ? 8192 : 16384});
  }
}

/// Eight Cortex-A78 in two clusters of four.
inline void write_a78_board(const TemporaryFolder& root) {
  root.write("sys/devices/system/cpu/online", "0-7\n");
  for (int cpu = 0; cpu < 8; ++cpu) {
    write_cpu(root, cpu,
              {.siblings = std::to_string(cpu),
               .cache_sharers = cpu < 4 ? "0-3" : "4-7",
               .capacity = 1024,
               .max_khz = 2400000});
  }
}

/// Two fast cores with two threads each (0-3), four slow ones with one (4-7), one cache for all.
inline void write_hybrid_laptop(const TemporaryFolder& root) {
  root.write("sys/devices/system/cpu/online", "0-7\n");
  for (int cpu = 0; cpu < 8; ++cpu) {
    const bool fast = cpu < 4;
    const std::string siblings = cpu < 2 ? "0-1" : cpu < 4 ? "2-3" : std::to_string(cpu);
    write_cpu(root, cpu, {.siblings = siblings, .cache_sharers = "0-7", .max_khz = fast ? 4700000 : 3500000});
  }
}

/// 32 cores with two threads each, n and n + 32, eight cores a cache.
inline void write_server(const TemporaryFolder& root) {
  root.write("sys/devices/system/cpu/online", "0-63\n");
  for (int cpu = 0; cpu < 64; ++cpu) {
    const int core = cpu % 32;
    const int first = core / 8 * 8;
    const auto range = [](int a) { return std::to_string(a) + "-" + std::to_string(a + 7); };
    write_cpu(root, cpu,
              {.siblings = std::to_string(core) + "," + std::to_string(core + 32),
               .cache_sharers = range(first) + "," + range(first + 32),
               .capacity = 1024,
               .max_khz = 3700000});
  }
}

}  // namespace heartmula::machines
