#include "text/unicode.h"

#include <unicode/locid.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <cstdint>

#include "base/error.h"

namespace heartmula {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 29;  // ICU counts in int32_t, and lower-casing may make a text longer

}  // namespace

void check_utf8(std::string_view what, std::string_view text) {
  if (text.size() > kMaxTextBytes) throw user_error("{}: longer than {} MiB", what, kMaxTextBytes >> 20);
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
  icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size())))
      .toLower(icu::Locale::getRoot())
      .toUTF8String(lower);
  return lower;
}

}  // namespace heartmula
