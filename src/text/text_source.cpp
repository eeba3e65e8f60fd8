#include "text/text_source.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "text/unicode.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxTextBytes = size_t{16} << 20;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool ends_in(std::string_view text, std::string_view ending) {
  if (text.size() < ending.size()) return false;
  const auto same = [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b - 'A' + 'a' : b); };
  return std::equal(ending.begin(), ending.end(), text.end() - static_cast<std::ptrdiff_t>(ending.size()), same);
}

std::string_view without_trailing_space(std::string_view value) {
  return value.substr(0, value.find_last_not_of(" \t\r\n") + 1);
}

bool looks_like_a_path(std::string_view value) {
  const std::string_view line = without_trailing_space(value);
  if (line.find_first_of("\r\n") != std::string_view::npos) return false;
  for (const char* ending : {".txt", ".lrc"}) {
    if (ends_in(line, ending)) return true;
  }
  for (const char* beginning : {"/", "./", "../", "~/"}) {
    if (line.starts_with(beginning)) return true;
  }
  return false;
}

fs::path expand_home(const std::string& value) {
  const char* home = std::getenv("HOME");
  if (!value.starts_with("~/") || home == nullptr) return value;
  return fs::path(home) / value.substr(2);
}

/// os.path.isfile: false for any name that the system cannot have.
bool is_file(const std::string& value, const fs::path& path) {
  std::error_code error;
  return !value.empty() && value.find('\0') == std::string::npos && fs::is_regular_file(path, error);
}

/// Python's universal newlines: "\r\n" and "\r" become "\n" in files.
std::string with_unix_line_ends(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r') {
      result += '\n';
      if (i + 1 < text.size() && text[i + 1] == '\n') ++i;
    } else {
      result += text[i];
    }
  }
  return result;
}

}  // namespace

std::string read_text_argument(std::string_view flag, const std::string& value) {
  const fs::path path = expand_home(value);
  if (is_file(value, path)) {
    const std::string contents = read_file(path, kMaxTextBytes);
    check_utf8(path.string(), contents);
    const std::string_view text = contents;
    return with_unix_line_ends(text.substr(text.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0));
  }
  check_utf8(flag, value);
  if (looks_like_a_path(value)) {
    throw user_error("{} {}: no such regular file; if this is the text itself, give it with {}_text", flag,
                     without_trailing_space(value), flag);
  }
  return value;
}

}  // namespace heartmula
