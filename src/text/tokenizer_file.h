// A tokenizer.json of the Llama-3 kind, read and checked: byte-level BPE whose text is split by a regular expression.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace heartmula {

struct TokenizerFile {
  struct Entry {
    std::string_view text;  ///< bytes written as GPT-2's characters
    int32_t id;
  };
  struct Merge {
    std::string_view left;
    std::string_view right;
  };
  struct AddedToken {
    std::string content;
    int32_t id;
    bool normalized;  ///< looked for after those that are not
  };

  std::vector<Entry> vocabulary;
  std::vector<Merge> merges;  ///< in the order of their rank
  bool ignore_merges = false;
  std::vector<AddedToken> added_tokens;
  std::vector<std::string> split_expressions;
  std::vector<int32_t> ids_before;  ///< what the post-processor puts before a text
  std::vector<int32_t> ids_after;

  /// What the views above point into.
  std::vector<char> vocabulary_text;
  std::vector<char> merge_text;
};

/// Ids are below this.
constexpr int32_t kMaxTokenIds = int32_t{1} << 22;

/// Throws Error(kUser) that begins with `name` if the text is not such a file, and names the component that is not
/// supported if it is another kind of tokenizer.
TokenizerFile parse_tokenizer_file(std::string_view text, const std::string& name);

}  // namespace heartmula
