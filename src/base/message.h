// Text from files and users as it may stand in a message: one line, no terminal's commands, not endless.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

namespace heartmula {

/// With control characters, line separators, marks that turn the direction of writing, and bytes that are not UTF-8
/// written as \x1b or \u202e.
std::string escaped(std::string_view text);

/// No longer than `longest` bytes: a longer text loses its middle.
std::string shortened(std::string_view text, size_t longest = 400);

/// In double quotes, escaped, and no longer than a name should be.
std::string in_quotes(std::string_view text);

/// As one word of a shell's command line.
std::string shell_word(const std::string& text);

/// "from 1 to 8", or "8" alone.
template <typename Number>
std::string range_text(Number min, Number max) {
  return min == max ? fmt::format("{}", min) : fmt::format("from {} to {}", min, max);
}

/// 10^9 bytes.
inline double gigabytes(int64_t bytes) {
  return static_cast<double>(bytes) * 1e-9;
}

namespace detail {
template <typename T>
decltype(auto) shortened_if_text(T& value) {
  if constexpr (std::is_convertible_v<T&, std::string_view>) {
    return shortened(value);
  } else {
    return (value);
  }
}
/// make_format_args keeps references: `args` live as long as this call.
template <typename... Args>
std::string format_with(fmt::string_view format, Args&&... args) {
  return fmt::vformat(format, fmt::make_format_args(args...));
}
}  // namespace detail

/// fmt::format, made harmless: texts among the arguments are shortened, and the whole is escaped.
template <typename... Args>
std::string message(fmt::format_string<Args...> format, Args&&... args) {
  return escaped(detail::format_with(format, detail::shortened_if_text(args)...));
}

}  // namespace heartmula
