#include "text/split_expression.h"

#include <unicode/regex.h>
#include <unicode/utf16.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <array>

#include "base/error.h"

namespace heartmula {
namespace {

// Letters and numbers that Unicode 15.1 and 16 added; ICU 72 has Unicode 15.
constexpr std::string_view kLaterLetters =
    R"(\x{1C89}-\x{1C8A}\x{A7CB}-\x{A7CD}\x{A7DA}-\x{A7DC}\x{105C0}-\x{105F3}\x{10D4A}-\x{10D65}\x{10D6F}-\x{10D85})"
    R"(\x{10EC2}-\x{10EC4}\x{11380}-\x{11389}\x{1138B}\x{1138E}\x{11390}-\x{113B5}\x{113B7}\x{113D1}\x{113D3})"
    R"(\x{11BC0}-\x{11BE0}\x{13460}-\x{143FA}\x{16100}-\x{1611D}\x{16D40}-\x{16D6C}\x{18CFF}\x{1E5D0}-\x{1E5ED})"
    R"(\x{1E5F0}\x{2EBF0}-\x{2EE5D})";
constexpr std::string_view kLaterNumbers =
    R"(\x{10D40}-\x{10D49}\x{116D0}-\x{116E3}\x{11BF0}-\x{11BF9}\x{16130}-\x{16139}\x{16D70}-\x{16D79})"
    R"(\x{1CCF0}-\x{1CCF9}\x{1E5F1}-\x{1E5FA})";

struct Rewriting {
  std::string_view from;
  std::string to;
};

/// The expression for ICU. Its classes become sets, which may stand inside other sets.
std::string rewritten(std::string_view expression) {
  static const std::array<Rewriting, 3> kRewritings = {{
      {R"(\p{L})", fmt::format(R"([\p{{L}}{}])", kLaterLetters)},
      {R"(\p{N})", fmt::format(R"([\p{{N}}{}])", kLaterNumbers)},
      // ICU repeats a set in place, but saves its state for each character of a repeated \s: 8 MB for 250,000 of them.
      {R"(\s)", R"([\s])"},
  }};
  std::string result;
  while (!expression.empty()) {
    const auto applies = [expression](const Rewriting& rewriting) { return expression.starts_with(rewriting.from); };
    const auto rewriting = std::find_if(kRewritings.begin(), kRewritings.end(), applies);
    const size_t escape = expression[0] == '\\' && expression.size() > 1 ? 2 : 1;
    const size_t length = rewriting == kRewritings.end() ? escape : rewriting->from.size();
    result += rewriting == kRewritings.end() ? expression.substr(0, length) : rewriting->to;
    expression.remove_prefix(length);
  }
  return result;
}

// Oniguruma's Ruby syntax: only '\n' ends a line, ^ and $ stand at every line.
constexpr uint32_t kFlags = UREGEX_UNIX_LINES | UREGEX_MULTILINE;

/// ICU calls this after every 10,000 steps.
UBool spend(const void* context, int32_t) {
  return --*static_cast<int64_t*>(const_cast<void*>(context)) > 0;
}

}  // namespace

struct SplitExpression::Pattern {
  std::unique_ptr<icu::RegexPattern> compiled;
};

SplitExpression::SplitExpression(SplitExpression&&) noexcept = default;
SplitExpression& SplitExpression::operator=(SplitExpression&&) noexcept = default;
SplitExpression::~SplitExpression() = default;

SplitExpression::SplitExpression(const std::string& expression, const std::string& name) {
  UErrorCode status = U_ZERO_ERROR;
  UParseError position;
  Pattern pattern;
  pattern.compiled.reset(
      icu::RegexPattern::compile(icu::UnicodeString::fromUTF8(rewritten(expression)), kFlags, position, status));
  if (U_FAILURE(status)) {
    throw user_error("{}: the expression of pre_tokenizer Split cannot be compiled ({})", name, u_errorName(status));
  }
  pattern_ = std::make_unique<const Pattern>(std::move(pattern));
}

void SplitExpression::split(std::string_view text, const std::function<void(std::string_view)>& on_piece) const {
  const auto utf16 = icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
  UErrorCode status = U_ZERO_ERROR;
  const std::unique_ptr<icu::RegexMatcher> matcher(pattern_->compiled->matcher(utf16, status));
  int64_t budget = 1000 + static_cast<int64_t>(text.size()) / 16;
  if (U_SUCCESS(status)) matcher->setMatchCallback(spend, &budget, status);

  int32_t here = 0;  // in UTF-16
  const auto emit_up_to = [&](int32_t end) {
    size_t bytes = 0;
    while (here < end) {
      const UChar32 code_point = utf16.char32At(here);
      here += U16_LENGTH(code_point);
      bytes += static_cast<size_t>(U8_LENGTH(code_point));
    }
    if (bytes > 0) on_piece(text.substr(0, bytes));
    text.remove_prefix(bytes);
  };
  while (U_SUCCESS(status) && matcher->find(status)) {
    const int32_t start = matcher->start(status);
    const int32_t end = matcher->end(status);
    emit_up_to(start);
    emit_up_to(end);
  }
  if (U_FAILURE(status)) {
    throw user_error("the expression of the tokenizer's pre_tokenizer fails on this text ({})", u_errorName(status));
  }
  emit_up_to(utf16.length());
}

}  // namespace heartmula
