// GPT-2's printable character of each byte, in which tokenizer.json writes its vocabulary.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>

namespace heartmula {

struct ByteAlphabet {
  std::array<std::string, 256> characters;           // UTF-8, one or two bytes each
  std::unordered_map<std::string_view, char> bytes;  // of the characters

  ByteAlphabet();
  ByteAlphabet(const ByteAlphabet&) = delete;  // `bytes` looks into `characters`
  ByteAlphabet& operator=(const ByteAlphabet&) = delete;
};

const ByteAlphabet& byte_alphabet();

}  // namespace heartmula
