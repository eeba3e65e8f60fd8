#include "tensor/fingerprint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/json_fields.h"

namespace heartmula {
namespace {

constexpr size_t kDigits = 16;
constexpr size_t kSampleBytes = 64;

/// FNV-1a (Fowler, Noll, Vo), 64 bits.
class Hash {
 public:
  void add(std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) value_ = (value_ ^ static_cast<uint64_t>(byte)) * 0x100000001B3u;
  }
  /// With its length, so that no two texts run together.
  void add(std::string_view text) {
    add(text.size());
    add(std::as_bytes(std::span(text)));
  }
  void add(uint64_t number) {
    for (int byte = 0; byte < 8; ++byte) {
      const auto one = static_cast<std::byte>(number >> (8 * byte));
      add(std::span(&one, 1));
    }
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0xCBF29CE484222325u;
};

}  // namespace

std::string fingerprint(std::string_view config, const WeightStore& store) {
  if (store.packed() != nullptr && !store.packed()->fingerprint.empty()) return store.packed()->fingerprint;
  Hash hash;
  hash.add(parse_json_object(config, "config.json").dump());
  store.for_each([&hash](const StoredTensor& tensor) {
    hash.add(tensor.name);
    hash.add(dtype_name(tensor.dtype));
    hash.add(tensor.shape.size());
    for (const int64_t dimension : tensor.shape) hash.add(static_cast<uint64_t>(dimension));
    const size_t bytes = std::min(kSampleBytes, tensor.data.size());
    for (const size_t first : {size_t{0}, (tensor.data.size() - bytes) / 2, tensor.data.size() - bytes}) {
      hash.add(tensor.data.subspan(first, bytes));
    }
  });
  return fmt::format("{:016x}", hash.value());
}

std::string model_fingerprint(const std::filesystem::path& folder) {
  const std::string config = read_json_object(folder / "config.json").dump();
  return fingerprint(config, WeightStore::open(folder));
}

bool is_fingerprint(std::string_view text) {
  return text.size() == kDigits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace heartmula
