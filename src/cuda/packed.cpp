#include "cuda/packed.h"

#include <algorithm>
#include <cstring>

namespace heartmula::cuda {

int64_t FewLayout::units() const {
  const int64_t padded = dtype == DType::kBF16 ? 16 : 32;
  return (n + padded - 1) / padded * padded / unit();
}

int64_t FewLayout::element(int64_t output, int64_t input) const {
  const int64_t slice_index = input / slice();
  const int64_t in_slice = input % slice();
  if (dtype == DType::kF32) {
    return ((slice_index * (slice() / 4) + in_slice / 4) * unit() + output) * 4 + in_slice % 4;
  }
  const int64_t stage = in_slice / kStage;
  const int64_t steps = std::min(kStage, slice() - stage * kStage) / kStep;  // of this stage
  const int64_t step = in_slice % kStage / kStep;
  const int64_t lane = 4 * output + in_slice % kStep / 8;
  return stage * kStage * kSlices * unit() + ((slice_index * steps + step) * 32 + lane) * 8 + in_slice % 8;
}

void FewLayout::pack_unit(std::span<std::byte> unit_memory, std::span<const float* const> rows) const {
  std::memset(unit_memory.data(), 0, unit_memory.size());
  auto* floats = reinterpret_cast<float*>(unit_memory.data());
  auto* halves = reinterpret_cast<uint16_t*>(unit_memory.data());
  const int64_t together = dtype == DType::kF32 ? 4 : 8;  // consecutive inputs that stay together
  for (size_t output = 0; output < rows.size(); ++output) {
    if (rows[output] == nullptr) continue;
    for (int64_t first = 0; first < k; first += together) {
      const int64_t at = element(static_cast<int64_t>(output), first);
      const int64_t count = std::min(together, k - first);
      for (int64_t i = 0; i < count; ++i) {
        const float value = rows[output][first + i];
        if (dtype == DType::kF32) {
          floats[at + i] = value;
        } else {
          halves[at + i] = f32_to_bf16(value);
        }
      }
    }
  }
}

PackedLayout few_layout(DType dtype) {
  return {dtype, dtype == DType::kBF16 ? 16 : 32, kStep * kSlices};
}

PackedLayout many_layout(DType dtype) {
  return {dtype, 2, dtype == DType::kBF16 ? 8 : 4};
}

}  // namespace heartmula::cuda
