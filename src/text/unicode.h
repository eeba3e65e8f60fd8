// Unicode as Python has it.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace heartmula {

/// Throws Error(kUser) "WHAT: invalid UTF-8 at byte 17", the first byte of the first ill-formed sequence.
void check_utf8(std::string_view what, std::string_view text);

/// Python's str.lower: full lower-casing without a language, final sigma, U+0130 -> i U+0307. `text` has
/// passed check_utf8.
std::string lower_case(std::string_view text);

/// Normalization form C: a letter and the accent behind it are one character. `text` has passed check_utf8.
std::string composed(std::string_view text);

/// The character that begins at `at`, which moves behind it. `text` has passed check_utf8.
char32_t next_character(std::string_view text, size_t& at);

bool is_space(char32_t c);
bool is_letter(char32_t c);
bool is_pictograph(char32_t c);  ///< an emoji

enum class Hidden {
  kNo,
  kInvisible,   ///< takes no room: U+200B, U+FEFF, U+00AD
  kJoiner,      ///< U+200C or U+200D, which some scripts and emoji need
  kDirection,   ///< turns the direction of writing: U+202E
  kFixedSpace,  ///< a space that does not end a line: U+00A0
};
Hidden hidden(char32_t c);

/// Unicode's script of that name ("Latin", "Han"), if there is one.
std::optional<int> find_script(const std::string& name);
std::string script_name(int script);
/// Of a letter; nothing if it is none, or one of several scripts.
std::optional<int> script_of(char32_t c);

}  // namespace heartmula
