#include "tensor/tensor_check.h"

#include <algorithm>
#include <array>
#include <bit>

#include "base/error.h"

namespace heartmula {
namespace {

constexpr int64_t kSpots = 8;          // of a large tensor: a page fault each
constexpr int64_t kSpotElements = 64;  // at each

bool is_zero(std::span<const std::byte> data) {
  return std::ranges::all_of(data, [](std::byte byte) { return byte == std::byte{0}; });
}

}  // namespace

bool all_finite(std::span<const float> values) {
  uint32_t carries = 0;  // the highest bit, where an exponent was all ones
  for (const float value : values) carries |= (std::bit_cast<uint32_t>(value) & 0x7FFFFFFFu) + 0x00800000u;
  return (carries & 0x80000000u) == 0;
}

void refuse_not_finite(std::string_view tensors, std::string_view file) {
  throw user_error("{}: tensor {} holds values that are not finite numbers; download it again, or ask its maker", file,
                   tensors);
}

void check_values(std::span<const std::byte> data, DType dtype, bool may_be_zero, std::string_view tensor,
                  std::string_view file) {
  const auto elements = static_cast<int64_t>(data.size() / dtype_size(dtype));
  const bool is_large = elements > kSpots * kSpotElements;
  const int64_t spots = is_large ? kSpots : (elements + kSpotElements - 1) / kSpotElements;
  bool sample_is_zero = true;
  std::array<float, kSpotElements> values;
  for (int64_t spot = 0; spot < spots; ++spot) {
    const int64_t first = is_large ? spot * (elements - kSpotElements) / (kSpots - 1) : spot * kSpotElements;
    const int64_t count = std::min(kSpotElements, elements - first);
    convert_to_f32(values.data(), data.data(), dtype, first, count);
    const std::span<const float> seen(values.data(), static_cast<size_t>(count));
    if (!all_finite(seen)) refuse_not_finite(tensor, file);
    sample_is_zero = sample_is_zero && std::ranges::all_of(seen, [](float value) { return value == 0; });
  }
  if (!may_be_zero && elements > 0 && sample_is_zero && is_zero(data)) {
    throw user_error("{}: tensor {} is all zeros: a download that has its size but not its data? Download it again",
                     file, tensor);
  }
}

}  // namespace heartmula
