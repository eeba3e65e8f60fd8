// The words by which people call the values of an enumeration: one table for reading, writing and telling them.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "heartmula/error.h"

namespace heartmula {

/// "FLAG WORD: must be a, b or c". Not formatted here: nvcc, which sees this header, cannot compile fmt 9's checks.
Error unknown_word(const std::string& flag, std::string_view word, const std::vector<std::string>& known);

template <typename Value, size_t kCount>
struct Names {
  std::array<std::pair<Value, std::string_view>, kCount> entries;

  /// Throws Error(kUser) "FLAG WORD: must be a, b or c" for a word that is none.
  Value parse(const std::string& flag, std::string_view word) const {
    for (const auto& [value, name] : entries) {
      if (word == name) return value;
    }
    throw unknown_word(flag, word, words());
  }
  std::string name(Value value) const {
    for (const auto& [known, name] : entries) {
      if (known == value) return std::string(name);
    }
    return {};
  }
  std::vector<std::string> words() const {
    std::vector<std::string> words;
    for (const auto& entry : entries) words.emplace_back(entry.second);
    return words;
  }
};

}  // namespace heartmula
