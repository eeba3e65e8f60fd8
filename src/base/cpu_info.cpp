#include "base/cpu_info.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <string_view>
#include <vector>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include "base/system_files.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;

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
    std::string value(trimmed(std::string_view(line).substr(colon + 1)));
    if (key == "model name" && !value.empty()) return value;
    if (key != "CPU part") continue;
    const std::string core = arm_core_name(value);
    if (std::ranges::find(arm_cores, core) == arm_cores.end()) arm_cores.push_back(core);
  }
  std::string name;
  for (const std::string& core : arm_cores) name += (name.empty() ? "Arm " : " + ") + core;
  return name.empty() ? "unknown" : name;
}

// What the first version of cgroups says of no limit is a number: all pages that there could be.
constexpr uint64_t kUnlimited = uint64_t{1} << 60;

MemoryInfo memory_info(const fs::path& root) {
  const fs::path meminfo = root / "proc/meminfo";
  MemoryInfo memory;
  const auto limit_to = [](std::optional<uint64_t>& bytes, uint64_t limit) {
    bytes = std::min(bytes.value_or(limit), limit);
  };
  if (const auto total = field(meminfo, "MemTotal:")) memory.total_bytes = *total * 1024;
  if (const auto available = field(meminfo, "MemAvailable:")) memory.available_bytes = *available * 1024;
  for (const Cgroup& cgroup : cgroups(root, "memory")) {
    const MemoryFiles& files = cgroup.unified ? kMemoryV2 : kMemoryV1;
    for (const fs::path& folder : cgroup.folders) {
      const std::optional<uint64_t> limit = number_in(folder / files.limit);
      if (!limit || *limit >= kUnlimited) continue;
      uint64_t used = number_in(folder / files.usage).value_or(0);
      for (const char* cache : files.file_cache)
        used -= std::min(used, field(folder / "memory.stat", cache).value_or(0));
      limit_to(memory.total_bytes, *limit);
      limit_to(memory.available_bytes, *limit - std::min(used, *limit));
    }
  }
  return memory;
}

uint64_t peak_memory_bytes(const fs::path& root) {
  return field(root / "proc/self/status", "VmHWM:").value_or(0) * 1024;
}

uint64_t resident_memory_bytes(const fs::path& root) {
  return field(root / "proc/self/status", "VmRSS:").value_or(0) * 1024;
}

}  // namespace detail

const CpuInfo& cpu_info() {
  static const CpuInfo kInfo = [] {
    CpuInfo probed;
    probed.features = probe_features();
#if defined(__x86_64__)
    probed.is_intel = __builtin_cpu_is("intel");
#endif
    probed.model_name = detail::cpu_model_name("/");
    return probed;
  }();
  return kInfo;
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

uint64_t resident_memory_bytes() {
  return detail::resident_memory_bytes("/");
}

}  // namespace heartmula
