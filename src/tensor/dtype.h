// Element types and the exact conversions between them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace heartmula {

enum class DType : uint8_t { kF32, kBF16, kF16, kF64, kI64, kI32, kI16, kI8, kU8, kBool };

/// Bytes of one element.
size_t dtype_size(DType dtype);
/// The name that safetensors uses: "F32", "BF16", ...
std::string_view dtype_name(DType dtype);
/// The inverse of dtype_name; nothing for a name that is not one of ours.
std::optional<DType> dtype_from_name(std::string_view name);

inline float bf16_to_f32(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

/// Rounds to nearest even; a NaN stays a (quiet) NaN.
inline uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

/// Without branches, so that a loop over it becomes vector code.
inline float f16_to_f32(uint16_t bits) {
  const uint32_t magnitude = bits & 0x7FFFu;
  const uint32_t shift = magnitude >= 0x7C00u ? 224u : 112u;  // between the exponents; infinity and NaN stay so
  const uint32_t normal = (magnitude << 13) + (shift << 23);
  const auto subnormal = std::bit_cast<uint32_t>(static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f);
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  return std::bit_cast<float>(sign | (magnitude < 0x400u ? subnormal : normal));
}

/// One element of a F32, BF16 or F16 array as a float. The array need not be aligned.
float load_as_f32(const void* data, DType dtype, int64_t index);
/// `count` consecutive elements of a F32, BF16 or F16 array, from element `offset`, as floats. The array need not be
/// aligned.
void convert_to_f32(float* out, const void* data, DType dtype, int64_t offset, int64_t count);

}  // namespace heartmula
