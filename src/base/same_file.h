#pragma once

#include <filesystem>

namespace heartmula {

/// Whether both names lead to one file, which need not exist yet: "./a", "a", a link to it, another way to its folder.
bool same_file(const std::filesystem::path& a, const std::filesystem::path& b);

}  // namespace heartmula
