// Text to token ids, with the ids of HuggingFace's `tokenizers`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace heartmula {

/// Immutable; encode() may be called by several threads at a time.
class Tokenizer {
 public:
  static Tokenizer open(const std::filesystem::path& path);
  /// `name` begins the messages of errors.
  static Tokenizer parse(std::string_view json, const std::string& name);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Throws Error(kUser) if the text is not UTF-8. With `add_special_tokens` the ids of the file's post-processor
  /// stand around those of the text.
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens = true) const;

  /// The bytes that an id stands for, not always whole characters. Throws Error(kUser) for an unknown id.
  std::string piece(int32_t id) const;

  /// One more than the greatest id.
  int32_t vocabulary_size() const;

 private:
  struct Tables;
  explicit Tokenizer(std::unique_ptr<const Tables> tables);
  std::unique_ptr<const Tables> tables_;
};

}  // namespace heartmula
