#include "base/same_file.h"

#include <system_error>

namespace heartmula {
namespace fs = std::filesystem;
namespace {

constexpr int kMostLinks = 40;  // as the system follows

}  // namespace

fs::path place_of(fs::path path) {
  std::error_code error;
  for (int links = 0; links < kMostLinks && fs::is_symlink(path, error); ++links) {
    path = path.parent_path() / fs::read_symlink(path, error);
  }
  const fs::path folder = path.parent_path();
  return fs::weakly_canonical(folder.empty() ? "." : folder, error) / path.filename();
}

bool same_file(const fs::path& a, const fs::path& b) {
  if (a.empty() || b.empty()) return false;
  std::error_code ignored;
  return a == b || fs::equivalent(a, b, ignored) || place_of(a) == place_of(b);
}

}  // namespace heartmula
