// A vocabulary, lyrics and tags, parted by zero bytes. The vocabulary is refused with an Error(kUser) of one line or
// taken; texts are linted with it, each time with the same warnings, which are of one line and in their places.
// floors: text
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "heartmula/error.h"
#include "text/lint.h"

namespace {

using namespace heartmula;

void require(bool condition) {
  if (!condition) std::abort();
}

bool is_line(std::string_view text) {
  return text.find_first_of("\r\n") == std::string_view::npos;
}

void check(const LintInput& input, const Vocabulary& known) {
  const std::vector<LintWarning> warnings = lint(input, known);
  const std::vector<LintWarning> again = lint(input, known);
  require(warnings.size() == again.size());
  const int64_t lines = 1 + std::ranges::count_if(*input.lyrics, [](char c) { return c == '\n' || c == '\r'; });
  for (size_t i = 0; i < warnings.size(); ++i) {
    const LintWarning& warning = warnings[i];
    require(warning.message == again[i].message && warning.suggestion == again[i].suggestion);
    require(!warning.message.empty() && is_line(warning.message) && !warning.code.empty());
    require(warning.field == "lyrics" || (warning.field == "tags" && !warning.line));
    require(!warning.line || (*warning.line >= 1 && *warning.line <= lines));
    if (warning.suggestion) lint({*warning.suggestion, *warning.suggestion, std::nullopt}, known);  // it is UTF-8
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  spdlog::set_level(spdlog::level::off);  // of unknown fields
  static const Vocabulary released = Vocabulary::released();
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::string_view file = bytes.substr(0, bytes.find('\0'));
  const std::string_view texts = bytes.substr(std::min(file.size() + 1, size));
  const std::string_view lyrics = texts.substr(0, texts.find('\0'));
  const std::string_view tags = texts.substr(std::min(lyrics.size() + 1, texts.size()));
  const LintInput input{lyrics, tags, static_cast<int64_t>(size % 7) * 40'000};
  try {
    check(input, released);
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::kUser && is_line(error.what()));
  }
  try {
    check(input, Vocabulary::parse(file, "fuzz"));
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::kUser && is_line(error.what()));
  }
  return 0;
}
