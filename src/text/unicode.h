// Unicode as Python has it.
#pragma once

#include <string>
#include <string_view>

namespace heartmula {

/// Throws Error(kUser) "WHAT: invalid UTF-8 at byte 17", the first byte of the first ill-formed sequence.
void check_utf8(std::string_view what, std::string_view text);

/// Python's str.lower: full lower-casing without a language, final sigma, U+0130 -> i U+0307. `text` has
/// passed check_utf8.
std::string lower_case(std::string_view text);

}  // namespace heartmula
