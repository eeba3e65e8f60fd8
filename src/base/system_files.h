// The small text files below /proc and /sys, which say what the machine is. Whatever is missing or makes no sense is
// std::nullopt or empty, never an error. `root` is the root of the file system, so that tests can bring their own.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace heartmula::detail {

/// Without blanks around it.
std::string_view trimmed(std::string_view text);
/// The decimal number that `text` begins with.
std::optional<uint64_t> number(std::string_view text);
/// Processor numbers in the order of a list such as "0-3,8"; each below 65536.
std::optional<std::vector<int>> cpu_list(std::string_view text);

std::optional<std::string> first_line(const std::filesystem::path& path);
std::optional<uint64_t> number_in(const std::filesystem::path& path);
std::optional<std::vector<int>> cpu_list_in(const std::filesystem::path& path);
/// The number after `key` in lines such as "MemAvailable:   24298660 kB" or "inactive_file 4096".
std::optional<uint64_t> field(const std::filesystem::path& path, std::string_view key);

struct Cgroup {
  bool unified = false;                        // v2
  std::vector<std::filesystem::path> folders;  // of this process' group, then of those above it
};
/// Those that may limit `controller` ("cpu", "cpuset" or "memory"), by /proc/self/cgroup.
std::vector<Cgroup> cgroups(const std::filesystem::path& root, std::string_view controller);

}  // namespace heartmula::detail
