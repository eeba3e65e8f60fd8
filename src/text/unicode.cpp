#include "text/unicode.h"

#include <unicode/locid.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/uscript.h>
#include <unicode/utf8.h>

#include <cstdint>

#include "base/error.h"

namespace heartmula {
namespace {

constexpr size_t kMaxIcuBytes = size_t{1} << 29;  // ICU counts in int32_t, and lower-casing may make a text longer

icu::UnicodeString wide(std::string_view text) {
  return icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
}

UChar32 point(char32_t c) {
  return static_cast<UChar32>(c);
}

}  // namespace

void check_utf8(std::string_view what, std::string_view text) {
  if (text.size() > kMaxIcuBytes) throw user_error("{}: longer than {} MiB", what, kMaxIcuBytes >> 20);
  const char* bytes = text.data();
  const int64_t size = static_cast<int64_t>(text.size());
  for (int64_t i = 0; i < size;) {
    const int64_t start = i;
    UChar32 code_point = 0;
    U8_NEXT(bytes, i, size, code_point);
    if (code_point < 0) throw user_error("{}: invalid UTF-8 at byte {}", what, start);
  }
}

std::string lower_case(std::string_view text) {
  std::string lower;
  wide(text).toLower(icu::Locale::getRoot()).toUTF8String(lower);
  return lower;
}

std::string composed(std::string_view text) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* form = icu::Normalizer2::getNFCInstance(error);
  std::string result;
  if (U_SUCCESS(error)) form->normalize(wide(text), error).toUTF8String(result);
  if (U_FAILURE(error)) throw failure("Unicode's normalization: {}", u_errorName(error));
  return result;
}

char32_t next_character(std::string_view text, size_t& at) {
  UChar32 c = 0;
  U8_NEXT_UNSAFE(text.data(), at, c);
  return static_cast<char32_t>(c);
}

bool is_space(char32_t c) {
  return u_isUWhiteSpace(point(c)) != 0;
}

bool is_letter(char32_t c) {
  return u_isUAlphabetic(point(c)) != 0;
}

bool is_pictograph(char32_t c) {
  return c > 0xFF && u_hasBinaryProperty(point(c), UCHAR_EXTENDED_PICTOGRAPHIC) != 0;
}

Hidden hidden(char32_t c) {
  if (c < 0x80) return Hidden::kNo;
  if (c == 0x200C || c == 0x200D) return Hidden::kJoiner;
  if (c == 0xA0 || c == 0x2007 || c == 0x202F) return Hidden::kFixedSpace;
  if (u_hasBinaryProperty(point(c), UCHAR_BIDI_CONTROL) != 0) return Hidden::kDirection;
  // Variation selectors and the like are marks, not formats: they belong to the character before them.
  const bool is_format = u_charType(point(c)) == U_FORMAT_CHAR;
  const bool is_unseen = u_hasBinaryProperty(point(c), UCHAR_DEFAULT_IGNORABLE_CODE_POINT) != 0;
  const bool is_filler = c == 0x115F || c == 0x1160 || c == 0x3164 || c == 0xFFA0;
  return (is_format && is_unseen) || is_filler ? Hidden::kInvisible : Hidden::kNo;
}

std::optional<int> find_script(const std::string& name) {
  const int32_t script = u_getPropertyValueEnum(UCHAR_SCRIPT, name.c_str());
  return script == UCHAR_INVALID_CODE ? std::nullopt : std::optional(static_cast<int>(script));
}

std::string script_name(int script) {
  const char* name = uscript_getName(static_cast<UScriptCode>(script));
  std::string words = name == nullptr ? "?" : name;
  for (char& c : words) {
    if (c == '_') c = ' ';
  }
  return words;
}

std::optional<int> script_of(char32_t c) {
  if (!is_letter(c)) return std::nullopt;
  UErrorCode error = U_ZERO_ERROR;
  const UScriptCode script = uscript_getScript(point(c), &error);
  if (U_FAILURE(error) || script <= USCRIPT_INHERITED || script == USCRIPT_UNKNOWN) return std::nullopt;
  return static_cast<int>(script);
}

}  // namespace heartmula
