// A file up to the first zero byte, and after it a text. Whatever they are, the file is refused with an Error(kUser)
// or makes a tokenizer that refuses the text likewise or cuts it into tokens that it knows.
// floors: text
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "heartmula/error.h"
#include "text/tokenizer.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace heartmula;
  spdlog::set_level(spdlog::level::off);
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::string_view file = bytes.substr(0, bytes.find('\0'));
  const std::string_view text = bytes.substr(std::min(file.size() + 1, size));
  try {
    const Tokenizer tokenizer = Tokenizer::parse(file, "fuzz");
    for (const std::string_view words :
         {text, std::string_view("Don't stop,\r\n  [Verse] 1234 \xF0\x9F\x8E\xB5 na\xC3\xAFve")}) {
      for (const int32_t id : tokenizer.encode(words)) {
        require(id >= 0 && id < tokenizer.vocabulary_size());
        require(!tokenizer.piece(id).empty());
      }
    }
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::kUser);
  }
  return 0;
}
