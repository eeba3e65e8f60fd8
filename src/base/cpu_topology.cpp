#include "base/cpu_topology.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>

#include "base/affinity.h"
#include "base/system_files.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();
/// Cores of one kind differ by a few percent (favoured cores): less than this share of the fastest is another kind.
constexpr double kSameSpeed = 0.9;

/// Those of `cpus` that are in `allowed` too; all of them where that would leave none (a container that shows files of
/// its host, or cpus numbered anew).
std::vector<int> restricted(std::vector<int> cpus, std::optional<std::vector<int>> allowed) {
  if (!allowed) return cpus;
  std::ranges::sort(*allowed);
  std::vector<int> both;
  std::ranges::set_intersection(cpus, *allowed, std::back_inserter(both));
  return both.empty() ? cpus : both;
}

std::optional<std::vector<int>> cpuset(const fs::path& root) {
  for (const detail::Cgroup& cgroup : detail::cgroups(root, "cpuset")) {
    for (const fs::path& folder : cgroup.folders) {
      const fs::path file = folder / (cgroup.unified ? "cpuset.cpus.effective" : "cpuset.effective_cpus");
      if (auto cpus = detail::cpu_list_in(file)) return cpus;
    }
  }
  return std::nullopt;
}

/// The lowest number in a list of siblings, `cpu` itself if there is no list.
int first_of(const std::optional<std::vector<int>>& siblings, int cpu) {
  return siblings && !siblings->empty() ? std::min(cpu, std::ranges::min(*siblings)) : cpu;
}

struct Cache {
  std::vector<int> sharers;
  int64_t bytes = 0;
};

std::optional<Cache> last_cache(const fs::path& cpu_folder) {
  std::optional<Cache> cache;
  uint64_t last_level = 0;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(cpu_folder / "cache", ignored)) {
    const uint64_t level = detail::number_in(entry.path() / "level").value_or(0);
    const auto sharers = detail::cpu_list_in(entry.path() / "shared_cpu_list");
    if (level <= last_level || !sharers) continue;
    last_level = level;
    const uint64_t kilobytes = detail::number_in(entry.path() / "size").value_or(0);  // "32768K"
    cache = {*sharers, static_cast<int64_t>(kilobytes) * 1024};
  }
  return cache;
}

/// Relative speeds by `file`, for example cpu_capacity; empty if it says the same of all or not something of each.
std::vector<double> speeds_by(const fs::path& cpu_folder, const std::vector<int>& cpus, const char* file) {
  std::vector<double> speeds;
  for (const int cpu : cpus) {
    const auto value = detail::number_in(cpu_folder / fmt::format("cpu{}", cpu) / file);
    if (!value || *value == 0) return {};
    speeds.push_back(static_cast<double>(*value));
  }
  const double fastest = std::ranges::max(speeds);
  if (std::ranges::min(speeds) == fastest) return {};
  for (double& speed : speeds) speed /= fastest;
  return speeds;
}

/// One cpu of each cluster in turn.
std::vector<Cpu> dealt(const std::vector<Cpu>& cpus) {
  std::map<int, int> dealt_of_cluster;
  std::vector<std::pair<int, Cpu>> rounds;
  for (const Cpu& cpu : cpus) rounds.emplace_back(dealt_of_cluster[cpu.cluster]++, cpu);
  std::ranges::stable_sort(rounds, {}, &std::pair<int, Cpu>::first);
  std::vector<Cpu> out;
  for (const auto& [round, cpu] : rounds) out.push_back(cpu);
  return out;
}

}  // namespace

namespace detail {

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

CpuTopology cpu_topology(const fs::path& root, std::vector<int> affinity) {
  const fs::path folder = root / "sys/devices/system/cpu";
  std::ranges::sort(affinity);
  CpuTopology topology;
  std::optional<std::vector<int>> online = cpu_list_in(folder / "online");
  if (!online) online = cpu_list_in(folder / "present");
  topology.present = online.value_or(affinity.empty() ? std::vector<int>{0} : affinity);
  std::ranges::sort(topology.present);

  const std::vector<int> allowed = affinity.empty() ? topology.present : affinity;
  const std::vector<int> ids = restricted(restricted(allowed, cpuset(root)), topology.present);
  std::vector<double> speeds = speeds_by(folder, ids, "cpu_capacity");
  if (speeds.empty()) speeds = speeds_by(folder, ids, "cpufreq/cpuinfo_max_freq");
  std::map<int, int64_t> cache_of_cluster;
  for (size_t i = 0; i < ids.size(); ++i) {
    const fs::path cpu_folder = folder / fmt::format("cpu{}", ids[i]);
    const std::optional<Cache> cache = last_cache(cpu_folder);
    const std::optional<std::vector<int>> sharers =
        cache ? cache->sharers : cpu_list_in(cpu_folder / "topology/cluster_cpus_list");
    topology.cpus.push_back({.id = ids[i],
                             .core = first_of(cpu_list_in(cpu_folder / "topology/thread_siblings_list"), ids[i]),
                             .cluster = sharers ? first_of(sharers, ids[i]) : 0,
                             .speed = speeds.empty() ? 1.0 : speeds[i]});
    if (cache) cache_of_cluster[topology.cpus.back().cluster] = cache->bytes;
  }
  for (const auto& [cluster, bytes] : cache_of_cluster) topology.cache_bytes += bytes;
  topology.quota = cgroup_cpu_limit(root);
  return topology;
}

}  // namespace detail

CpuTopology cpu_topology() {
  return detail::cpu_topology("/", affinity());
}

std::vector<int> cpus_in_order(const CpuTopology& topology) {
  std::map<int, size_t> cpus_of_core;
  std::vector<std::vector<Cpu>> siblings;  // the first cpu of each core, the second ones, ...
  for (const Cpu& cpu : topology.cpus) {
    const size_t sibling = cpus_of_core[cpu.core]++;
    if (sibling == siblings.size()) siblings.emplace_back();
    siblings[sibling].push_back(cpu);
  }
  std::vector<int> order;
  for (std::vector<Cpu>& cpus : siblings) {
    std::ranges::stable_sort(cpus, std::greater<>(), &Cpu::speed);
    for (auto first = cpus.begin(); first != cpus.end();) {
      const auto end =
          std::find_if(first, cpus.end(), [&](const Cpu& cpu) { return cpu.speed < kSameSpeed * first->speed; });
      for (const Cpu& cpu : dealt({first, end})) order.push_back(cpu.id);
      first = end;
    }
  }
  return order;
}

int core_count(const CpuTopology& topology) {
  std::set<int> cores;
  for (const Cpu& cpu : topology.cpus) cores.insert(cpu.core);
  return static_cast<int>(cores.size());
}

int default_cpu_count(const CpuTopology& topology) {
  const int cores = core_count(topology);
  return topology.quota > 0 ? std::min(cores, topology.quota) : cores;
}

std::string cpu_list_text(const std::vector<int>& cpus) {
  std::string text;
  for (size_t i = 0; i < cpus.size();) {
    size_t end = i + 1;
    while (end < cpus.size() && cpus[end] == cpus[end - 1] + 1) ++end;
    text += fmt::format("{}{}", text.empty() ? "" : ",", cpus[i]);
    if (end - i > 1) text += fmt::format("-{}", cpus[end - 1]);
    i = end;
  }
  return text;
}

}  // namespace heartmula
