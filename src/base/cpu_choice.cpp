#include "base/cpu_choice.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/system_files.h"

namespace heartmula {
namespace {

std::vector<int> parse_list(const CpuTopology& topology, const std::string& list) {
  const std::optional<std::vector<int>> cpus = detail::cpu_list(list);
  if (!cpus) throw user_error("--cpus {}: must be \"fastest\" or a list of processor numbers such as 0-3,8", list);
  std::vector<int> usable;
  for (const Cpu& cpu : topology.cpus) usable.push_back(cpu.id);
  for (auto cpu = cpus->begin(); cpu != cpus->end(); ++cpu) {
    if (std::find(cpus->begin(), cpu, *cpu) != cpu) throw user_error("--cpus {}: {} stands there twice", list, *cpu);
    if (std::ranges::find(usable, *cpu) != usable.end()) continue;
    if (std::ranges::find(topology.present, *cpu) == topology.present.end()) {
      throw user_error("--cpus {}: there is no cpu {}; this machine has {}", list, *cpu,
                       cpu_list_text(topology.present));
    }
    throw user_error("--cpus {}: this process may not use cpu {}; it may use {} (taskset and cgroups set this)", list,
                     *cpu, cpu_list_text(usable));
  }
  return *cpus;
}

}  // namespace

CpuChoice choose_cpus(const CpuTopology& topology, int threads, const std::string& list) {
  CpuChoice choice;
  choice.automatic = threads == 0 && list.empty();
  if (list.empty()) {
    choice.threads = threads == 0 ? default_cpu_count(topology) : threads;
    choice.cpus = cpus_in_order(topology);
    return choice;
  }
  choice.pinned = true;
  choice.cpus = list == "fastest" ? cpus_in_order(topology) : parse_list(topology, list);
  if (list == "fastest" && threads == 0) threads = default_cpu_count(topology);
  const auto size = static_cast<int>(choice.cpus.size());
  if (threads > size)
    throw user_error("--threads {}, but --cpus {} names {}: leave one of them out", threads, list, size);
  choice.threads = threads == 0 ? size : threads;
  return choice;
}

int threads_from_environment() {
  const char* variable = std::getenv("HEARTMULA_THREADS");
  if (variable == nullptr || *variable == '\0') return 0;
  const std::string_view text(variable);
  int threads = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), threads);
  if (error == std::errc() && end == text.data() + text.size() && threads > 0) return threads;
  throw user_error("HEARTMULA_THREADS={}: must be a number of threads, 1 or more", text);
}

}  // namespace heartmula
