// Whatever the bytes, a safetensors file is refused with an Error(kUser) or has tensors that lie inside it.
// floors: tensor
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "heartmula/error.h"
#include "tensor/safetensors.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace heartmula;
  try {
    const SafetensorsFile file = SafetensorsFile::parse({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
    [[maybe_unused]] volatile unsigned char sum = 0;
    for (const StoredTensor& tensor : file.tensors()) {
      for (const std::byte byte : tensor.data) sum = static_cast<unsigned char>(sum + static_cast<unsigned char>(byte));
      require(file.find(tensor.name) == &tensor);
      require(tensor.data.size() == static_cast<size_t>(tensor.elements()) * dtype_size(tensor.dtype));
    }
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::kUser);
    for (const char* c = error.what(); *c != '\0'; ++c) require(*c != '\n');
  }
  return 0;
}
