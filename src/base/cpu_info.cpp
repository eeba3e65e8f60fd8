#include "base/cpu_info.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>
#include <thread>
#include <vector>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace heartmula {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

CpuFeatures probe_features() {
  CpuFeatures features;
#if defined(__x86_64__)
  // These ask the operating system too (XGETBV).
  __builtin_cpu_init();
  features.avx2_fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  features.avx512 = features.avx2_fma && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512cd");
  features.avx512_bf16 = features.avx512 && __builtin_cpu_supports("avx512bf16");
#elif defined(__aarch64__)
  constexpr unsigned long kHwcapAsimd = 1ul << 1;
  constexpr unsigned long kHwcap2Bf16 = 1ul << 14;
  features.neon = (getauxval(AT_HWCAP) & kHwcapAsimd) != 0;
  features.neon_bf16 = features.neon && (getauxval(AT_HWCAP2) & kHwcap2Bf16) != 0;
#endif
  return features;
}

int cores_of_affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::thread::hardware_concurrency());  // more processors than the set has room for
}

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\n") - first + 1);
}

std::optional<uint64_t> number(std::string_view text) {
  text = trimmed(text);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

std::optional<std::string> first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  return line;
}

std::optional<uint64_t> number_in(const fs::path& path) {
  const std::optional<std::string> line = first_line(path);
  return line ? number(*line) : std::nullopt;
}

/// The number after `key` in lines such as "MemAvailable:   24298660 kB" or "inactive_file 4096".
std::optional<uint64_t> field(const fs::path& path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) return number(std::string_view(line).substr(key.size()));
  }
  return std::nullopt;
}

/// The folders of this process' cgroup in the hierarchy `mount`, then of those above it; a container may show only
/// the outermost.
std::vector<fs::path> cgroup_folders(const fs::path& mount, std::string_view cgroup) {
  std::vector<fs::path> folders;
  fs::path relative = fs::path(cgroup).relative_path();
  while (!relative.empty()) {
    folders.push_back(mount / relative);
    relative = relative.parent_path();
  }
  folders.push_back(mount);
  return folders;
}

struct Cgroup {
  bool unified = false;  // v2
  std::vector<fs::path> folders;
};

/// Those that may limit `controller` ("cpu" or "memory"), by /proc/self/cgroup.
std::vector<Cgroup> cgroups(const fs::path& root, std::string_view controller) {
  std::vector<Cgroup> found;
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "0::/user.slice" (v2), "4:cpu,cpuacct:/job" (v1)
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string_view cgroup = std::string_view(line).substr(second + 1);
    if (controllers.empty()) {
      found.push_back({true, cgroup_folders(root / "sys/fs/cgroup", cgroup)});
    } else if (fmt::format(",{},", controllers).find(fmt::format(",{},", controller)) != std::string::npos) {
      for (const std::string& name : {controllers, std::string(controller)}) {
        const fs::path mount = root / "sys/fs/cgroup" / name;
        std::error_code ignored;
        if (!fs::is_directory(mount, ignored)) continue;
        found.push_back({false, cgroup_folders(mount, cgroup)});
        break;
      }
    }
  }
  return found;
}

struct MemoryFiles {
  const char* limit;
  const char* usage;
  std::array<const char*, 2>
      file_cache;  // fields of memory.stat: pages of files, which count as used but are given back
};
constexpr MemoryFiles kMemoryV1 = {
    "memory.limit_in_bytes", "memory.usage_in_bytes", {"total_inactive_file ", "total_active_file "}};
constexpr MemoryFiles kMemoryV2 = {"memory.max", "memory.current", {"inactive_file ", "active_file "}};

/// "Cortex-X925" of "0xd85"; the part itself if it is not one that we know.
std::string arm_core_name(std::string_view part) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 14> kCores = {{{"0xd03", "Cortex-A53"},
                                                                                     {"0xd05", "Cortex-A55"},
                                                                                     {"0xd08", "Cortex-A72"},
                                                                                     {"0xd0b", "Cortex-A76"},
                                                                                     {"0xd0c", "Neoverse-N1"},
                                                                                     {"0xd40", "Neoverse-V1"},
                                                                                     {"0xd41", "Cortex-A78"},
                                                                                     {"0xd42", "Cortex-A78AE"},
                                                                                     {"0xd49", "Neoverse-N2"},
                                                                                     {"0xd4b", "Cortex-A78C"},
                                                                                     {"0xd4f", "Neoverse-V2"},
                                                                                     {"0xd85", "Cortex-X925"},
                                                                                     {"0xd87", "Cortex-A725"},
                                                                                     {"0xd8e", "Neoverse-N3"}}};
  for (const auto& [id, name] : kCores) {
    if (id == part) return std::string(name);
  }
  return "part " + std::string(part);
}

}  // namespace

namespace detail {

std::string cpu_model_name(const fs::path& root) {
  std::ifstream file(root / "proc/cpuinfo");
  std::vector<std::string> arm_cores;
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string_view key = trimmed(std::string_view(line).substr(0, colon));
    const std::string value(trimmed(std::string_view(line).substr(colon + 1)));
    if (key == "model name" && !value.empty()) return value;
    if (key != "CPU part") continue;
    const std::string core = arm_core_name(value);
    if (std::ranges::find(arm_cores, core) == arm_cores.end()) arm_cores.push_back(core);
  }
  std::string name;
  for (const std::string& core : arm_cores) name += (name.empty() ? "Arm " : " + ") + core;
  return name.empty() ? "unknown" : name;
}

int cgroup_cpu_limit(const fs::path& root) {
  uint64_t cores = kNoLimit;
  for (const Cgroup& cgroup : cgroups(root, "cpu")) {
    for (const fs::path& folder : cgroup.folders) {
      std::optional<uint64_t> quota;
      std::optional<uint64_t> period;
      if (cgroup.unified) {  // "200000 100000" or "max 100000"
        std::istringstream line(first_line(folder / "cpu.max").value_or(""));
        std::string first;
        std::string second;
        line >> first >> second;
        quota = number(first);
        period = number(second);
      } else {  // a quota of -1 is none
        quota = number_in(folder / "cpu.cfs_quota_us");
        period = number_in(folder / "cpu.cfs_period_us");
      }
      if (quota && period && *quota > 0 && *period > 0) cores = std::min(cores, (*quota - 1) / *period + 1);
    }
  }
  return cores > 1'000'000 ? 0 : static_cast<int>(cores);
}

MemoryInfo memory_info(const fs::path& root) {
  const fs::path meminfo = root / "proc/meminfo";
  MemoryInfo memory;
  memory.total_bytes = field(meminfo, "MemTotal:").value_or(0) * 1024;
  memory.available_bytes = field(meminfo, "MemAvailable:").value_or(0) * 1024;
  for (const Cgroup& cgroup : cgroups(root, "memory")) {
    const MemoryFiles& files = cgroup.unified ? kMemoryV2 : kMemoryV1;
    for (const fs::path& folder : cgroup.folders) {
      const std::optional<uint64_t> limit = number_in(folder / files.limit);
      if (!limit) continue;
      uint64_t used = number_in(folder / files.usage).value_or(0);
      for (const char* cache : files.file_cache)
        used -= std::min(used, field(folder / "memory.stat", cache).value_or(0));
      memory.total_bytes = std::min(memory.total_bytes, *limit);
      memory.available_bytes = std::min(memory.available_bytes, *limit - std::min(used, *limit));
    }
  }
  return memory;
}

uint64_t peak_memory_bytes(const fs::path& root) {
  return field(root / "proc/self/status", "VmHWM:").value_or(0) * 1024;
}

}  // namespace detail

const CpuInfo& cpu_info() {
  static const CpuInfo info = [] {
    CpuInfo probed;
    probed.features = probe_features();
    probed.model_name = detail::cpu_model_name("/");
    const int limit = detail::cgroup_cpu_limit("/");
    const int cores = cores_of_affinity();
    probed.usable_cores = std::max(1, limit > 0 ? std::min(limit, cores) : cores);
    return probed;
  }();
  return info;
}

MemoryInfo memory_info() {
  return detail::memory_info("/");
}

void reset_peak_memory() {
  std::ofstream("/proc/self/clear_refs") << "5";
}

uint64_t peak_memory_bytes() {
  return detail::peak_memory_bytes("/");
}

}  // namespace heartmula
