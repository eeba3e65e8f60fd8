// How likely each code is.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace heartmula {

struct CodeChances {
  std::vector<int32_t> codes = {};   // those with a chance above 0, in ascending order
  std::vector<double> chances = {};  // theirs, 1 together

  /// A code for sure.
  static CodeChances only(int32_t code) { return {{code}, {1}}; }

  bool operator==(const CodeChances&) const = default;
  double of(int32_t code) const {
    const auto found = std::ranges::lower_bound(codes, code);
    return found == codes.end() || *found != code ? 0 : chances[static_cast<size_t>(found - codes.begin())];
  }
};

}  // namespace heartmula
