// Which known word a misspelt one was meant to be.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace heartmula {

/// Insertions, deletions, replacements and swaps of neighbours (of bytes) that make `b` of `a`.
size_t slips_between(std::string_view a, std::string_view b);

/// The one of `candidates` with the fewest slips, the first of several; null if all differ by more than a third of the
/// letters of `word`.
const std::string* nearest_word(std::string_view word, std::span<const std::string> candidates);

}  // namespace heartmula
