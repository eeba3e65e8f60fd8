// Whatever the bytes, a drafter file is refused with one line for the user or fits the language model.
// floors: decode
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "decode/draft_model.h"
#include "heartmula/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace heartmula;
  LmConfig lm;
  lm.source = "config.json";
  lm.backbone.embed_dim = 4;
  lm.audio_vocab_size = 3;
  try {
    const DraftFile file =
        DraftFile::of(SafetensorsFile::parse({reinterpret_cast<const std::byte*>(data), size}, "fuzz"), lm);
    for (const ExpectedTensor& tensor : DraftModel::expected_tensors(file.config)) {
      if (file.store.shape(tensor.name) != tensor.shape) std::abort();
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUser) std::abort();
    for (const char* c = error.what(); *c != '\0'; ++c) {
      if (*c == '\n') std::abort();
    }
  }
  return 0;
}
