#include "text/spelling.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

namespace heartmula {

size_t slips_between(std::string_view a, std::string_view b) {
  std::vector<size_t> two_back;
  std::vector<size_t> above(b.size() + 1);
  std::iota(above.begin(), above.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    std::vector<size_t> row(b.size() + 1, i);
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], two_back[j - 2] + 1);
    }
    two_back = std::exchange(above, std::move(row));
  }
  return above.back();
}

const std::string* nearest_word(std::string_view word, std::span<const std::string> candidates) {
  // A slip in three letters is still the word; more than that is another.
  size_t best_slips = word.size() / 3 + 1;
  const std::string* best = nullptr;
  for (const std::string& candidate : candidates) {
    const size_t longer = std::max(word.size(), candidate.size()) - std::min(word.size(), candidate.size());
    if (longer >= best_slips) continue;
    const size_t slips = slips_between(word, candidate);
    if (slips >= best_slips) continue;
    best = &candidate;
    best_slips = slips;
  }
  return best;
}

}  // namespace heartmula
