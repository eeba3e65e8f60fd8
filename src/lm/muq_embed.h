// The style vector of a song: what a MuQ model says of some music, from a file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace heartmula {

/// `size` numbers (LmConfig::muq_dim) from a NumPy file (.npy: little-endian f2, f4 or f8) or a safetensors file with
/// one tensor (F16, BF16, F32 or F64); their shape is [size], or that with ones before or behind it. Throws
/// Error(kUser) if the file is neither, has another number of values, or one that is not finite.
std::vector<float> read_muq_embed(const std::filesystem::path& path, int64_t size);

}  // namespace heartmula
