// The JSON at the beginning of a safetensors file: read, and checked against the size of the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"

namespace heartmula {

constexpr std::string_view kSafetensorsMetadata = "__metadata__";

struct SafetensorsHeader {
  struct Entry {
    std::string name;
    std::string dtype_name;
    std::optional<DType> dtype;  // there is one in a header that was read
    std::vector<int64_t> shape;
    uint64_t begin = 0;  // in the data, as `end`
    uint64_t end = 0;
  };
  std::vector<Entry> entries;  // by name
  std::map<std::string, std::string> metadata;
  size_t bytes = 0;  // from the beginning of the file to the data
};

/// Checks all that can be known without looking at the data: names, dtypes and shapes, and that the tensors are, one
/// after another, all of the rest of `file`. `name` begins the messages. Throws Error(kUser).
SafetensorsHeader read_safetensors_header(std::span<const std::byte> file, const std::string& name);

}  // namespace heartmula
