// Lyrics in parts of about the same length, cut at the marks of sections.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace heartmula {

/// At most `most` parts, each of which begins with a section mark ("[Verse]" in a line of its own) but perhaps the
/// first; together they are the lyrics. Lyrics without marks are one part.
std::vector<std::string> split_chapters(std::string_view lyrics, int64_t most);

}  // namespace heartmula
