// "Did you mean ...?" for flags that do not exist.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace heartmula {

/// The one of `candidates` (all spellings of a command's flags) that `word` was probably meant to be: what other
/// programs call it, or what differs from it by few letters. `word` may have "=VALUE" behind it; with "_" or "-" is
/// the same. Empty if there is none.
std::string suggestion(std::string_view word, std::span<const std::string> candidates);

}  // namespace heartmula
