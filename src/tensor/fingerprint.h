// Which checkpoint is this? A short text that is the same for the same weights, however they are cut into files.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "tensor/weight_store.h"

namespace heartmula {

/// 16 hexadecimal digits: a hash (FNV-1a, 64 bits) over `config` (JSON, whatever its layout) and, of each tensor, name,
/// dtype, shape and a few bytes from its beginning, middle and end. Milliseconds, whatever the size. A packed
/// checkpoint has that of the one it was made from. It tells checkpoints apart, and proves nothing.
std::string fingerprint(std::string_view config, const WeightStore& store);

/// Of the model in `folder`: config.json and weights. Throws Error(kUser) if one is missing or broken.
std::string model_fingerprint(const std::filesystem::path& folder);

/// Whether `text` has the form of a fingerprint.
bool is_fingerprint(std::string_view text);

}  // namespace heartmula
