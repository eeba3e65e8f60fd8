#include "base/system_files.h"

#include <fmt/format.h>

#include <charconv>
#include <fstream>

namespace heartmula::detail {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMostCpus = 65536;

/// A container may show only the outermost.
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

/// The whole of `text`, digits only.
std::optional<uint64_t> cpu_number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || value >= kMostCpus)
    return std::nullopt;
  return value;
}

}  // namespace

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

std::optional<std::vector<int>> cpu_list(std::string_view text) {
  std::vector<int> cpus;
  text = trimmed(text);
  while (true) {
    const size_t comma = text.find(',');
    const std::string_view range = text.substr(0, comma);
    const size_t dash = range.find('-');
    const std::optional<uint64_t> first = cpu_number(range.substr(0, dash));
    const std::optional<uint64_t> last = dash == std::string_view::npos ? first : cpu_number(range.substr(dash + 1));
    if (!first || !last || *last < *first || cpus.size() > kMostCpus) return std::nullopt;
    for (uint64_t cpu = *first; cpu <= *last; ++cpu) cpus.push_back(static_cast<int>(cpu));
    if (comma == std::string_view::npos) return cpus;
    text.remove_prefix(comma + 1);
  }
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

std::optional<std::vector<int>> cpu_list_in(const fs::path& path) {
  const std::optional<std::string> line = first_line(path);
  return line ? cpu_list(*line) : std::nullopt;
}

std::optional<uint64_t> field(const fs::path& path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) return number(std::string_view(line).substr(key.size()));
  }
  return std::nullopt;
}

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

}  // namespace heartmula::detail
