#include "text/byte_alphabet.h"

namespace heartmula {
namespace {

/// GPT-2's character of each byte, as code points below 0x144: printable bytes stand for themselves, the others follow
/// from U+0100 on.
std::array<char32_t, 256> make_byte_characters() {
  std::array<char32_t, 256> characters = {};
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool is_printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    characters[byte] = is_printable ? byte : next++;
  }
  return characters;
}

}  // namespace

ByteAlphabet::ByteAlphabet() {
  const std::array<char32_t, 256> code_points = make_byte_characters();
  for (size_t byte = 0; byte < 256; ++byte) {
    const char32_t c = code_points[byte];
    std::string& character = characters[byte];
    if (c >= 0x80) character += static_cast<char>(0xC0 | (c >> 6));
    character += static_cast<char>(c < 0x80 ? c : 0x80 | (c & 0x3F));
    bytes.emplace(character, static_cast<char>(byte));
  }
}

const ByteAlphabet& byte_alphabet() {
  static const ByteAlphabet kAlphabet;
  return kAlphabet;
}

}  // namespace heartmula
