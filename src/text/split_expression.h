// Cutting a text with the regular expression of a tokenizer.json.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace heartmula {

/// The expression means what it means to HuggingFace's library (Oniguruma, Unicode 16), whatever Unicode ICU has.
class SplitExpression {
 public:
  /// Throws Error(kUser) that begins with `name` if the expression cannot be compiled.
  SplitExpression(const std::string& expression, const std::string& name);
  SplitExpression(SplitExpression&&) noexcept;
  SplitExpression& operator=(SplitExpression&&) noexcept;
  ~SplitExpression();

  /// Calls `on_piece` with each match and each gap between matches, in order; together they are `text`, which is valid
  /// UTF-8. Throws Error(kUser) if the expression backtracks without end on this text.
  void split(std::string_view text, const std::function<void(std::string_view)>& on_piece) const;

 private:
  struct Pattern;
  std::unique_ptr<const Pattern> pattern_;
};

}  // namespace heartmula
