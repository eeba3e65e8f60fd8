// The words by which people call the values of an enumeration: one table for reading, writing and telling them.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace heartmula {

template <typename Value, size_t kCount>
struct Names {
  std::array<std::pair<Value, std::string_view>, kCount> entries;

  /// Throws Error(kUser) "FLAG WORD: must be a, b or c" for a word that is none.
  Value parse(const std::string& flag, std::string_view word) const {
    for (const auto& [value, name] : entries) {
      if (word == name) return value;
    }
    std::string all(entries[0].second);
    for (size_t i = 1; i < kCount; ++i) {
      all += i + 1 < kCount ? ", " : " or ";
      all += entries[i].second;
    }
    throw user_error("{} {}: must be {}", flag, word, all);
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
