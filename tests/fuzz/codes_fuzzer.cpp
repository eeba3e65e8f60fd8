// floors: song
// Any bytes are codes or an Error(kUser), never anything else.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "heartmula/error.h"
#include "song/codes_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    heartmula::parse_codes(std::as_bytes(std::span(data, size)), "fuzz");
  } catch (const heartmula::Error& error) {
    if (error.kind() != heartmula::ErrorKind::kUser) std::abort();
  }
  return 0;
}
