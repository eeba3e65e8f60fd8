#include "text/chapters.h"

#include <algorithm>
#include <iterator>

namespace heartmula {
namespace {

bool is_mark(std::string_view line) {
  const size_t first = line.find_first_not_of(" \t");
  const size_t last = line.find_last_not_of(" \t\r");
  return first != std::string_view::npos && line[first] == '[' && line[last] == ']';
}

// From mark to mark; what stands before the first one belongs to it.
std::vector<std::string_view> sections_of(std::string_view lyrics) {
  std::vector<size_t> begins = {0};
  bool has_mark = false;
  for (size_t line = 0; line < lyrics.size();) {
    const size_t end = std::min(lyrics.find('\n', line), lyrics.size());
    if (is_mark(lyrics.substr(line, end - line))) {
      if (has_mark) begins.push_back(line);
      has_mark = true;
    }
    line = end + 1;
  }
  std::vector<std::string_view> sections;
  for (size_t i = 0; i < begins.size(); ++i) {
    const size_t end = i + 1 < begins.size() ? begins[i + 1] : lyrics.size();
    sections.push_back(lyrics.substr(begins[i], end - begins[i]));
  }
  return sections;
}

}  // namespace

std::vector<std::string> split_chapters(std::string_view lyrics, int64_t most) {
  const std::vector<std::string_view> sections = sections_of(lyrics);
  const int64_t count = std::clamp<int64_t>(most, 1, std::ssize(sections));
  std::vector<std::string> chapters;
  size_t taken = 0;  // bytes
  for (size_t i = 0; i < sections.size(); ++i) {
    const int64_t left = std::ssize(sections) - static_cast<int64_t>(i);
    const int64_t missing = count - std::ssize(chapters);
    // A new one where its share of the text begins, and where there are only as many sections as chapters left.
    const size_t share = lyrics.size() * chapters.size() / static_cast<size_t>(count);
    const bool begins =
        chapters.empty() || (missing > 0 && (left <= missing || taken + sections[i].size() / 2 >= share));
    if (begins) chapters.emplace_back();
    chapters.back() += sections[i];
    taken += sections[i].size();
  }
  return chapters;
}

}  // namespace heartmula
