#pragma once

#include <filesystem>

namespace heartmula {

/// Where a file of this name is, or would be created: links followed, the folder without detours.
std::filesystem::path place_of(std::filesystem::path path);

/// Whether both names lead to one file, which need not exist yet: "./a", "a", a link to it, another way to its folder.
bool same_file(const std::filesystem::path& a, const std::filesystem::path& b);

}  // namespace heartmula
