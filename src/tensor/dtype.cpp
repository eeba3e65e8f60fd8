#include "tensor/dtype.h"

#include <array>
#include <cassert>
#include <cstring>

namespace heartmula {
namespace {

struct DTypeInfo {
  DType dtype;
  size_t size;
  std::string_view name;
};

constexpr std::array<DTypeInfo, 10> kDTypes = {{{DType::kF32, 4, "F32"},
                                                {DType::kBF16, 2, "BF16"},
                                                {DType::kF16, 2, "F16"},
                                                {DType::kF64, 8, "F64"},
                                                {DType::kI64, 8, "I64"},
                                                {DType::kI32, 4, "I32"},
                                                {DType::kI16, 2, "I16"},
                                                {DType::kI8, 1, "I8"},
                                                {DType::kU8, 1, "U8"},
                                                {DType::kBool, 1, "BOOL"}}};

constexpr bool in_order_of_the_enumeration() {
  for (size_t i = 0; i < kDTypes.size(); ++i) {
    if (static_cast<size_t>(kDTypes[i].dtype) != i) return false;
  }
  return true;
}
static_assert(in_order_of_the_enumeration());
static_assert(std::endian::native == std::endian::little, "tensors on disk are little endian and read in place");

const DTypeInfo& info(DType dtype) {
  return kDTypes[static_cast<size_t>(dtype)];
}

/// Data in a mapped file may lie at any address.
template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

}  // namespace

size_t dtype_size(DType dtype) {
  return info(dtype).size;
}

std::string_view dtype_name(DType dtype) {
  return info(dtype).name;
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const DTypeInfo& candidate : kDTypes) {
    if (candidate.name == name) return candidate.dtype;
  }
  return std::nullopt;
}

float load_as_f32(const void* data, DType dtype, int64_t index) {
  float value = 0;
  convert_to_f32(&value, data, dtype, index, 1);
  return value;
}

void convert_to_f32(float* out, const void* data, DType dtype, int64_t offset, int64_t count) {
  const std::byte* from = static_cast<const std::byte*>(data) + offset * static_cast<int64_t>(dtype_size(dtype));
  switch (dtype) {
    case DType::kF32:
      if (count > 0) std::memcpy(out, from, static_cast<size_t>(count) * sizeof(float));
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < count; ++i) out[i] = bf16_to_f32(load<uint16_t>(from + 2 * i));
      return;
    case DType::kF16:
      for (int64_t i = 0; i < count; ++i) out[i] = f16_to_f32(load<uint16_t>(from + 2 * i));
      return;
    default:
      assert(!"convert_to_f32: not a floating-point dtype of weights");
  }
}

}  // namespace heartmula
