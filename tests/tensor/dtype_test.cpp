#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace heartmula {
namespace {

constexpr DType kAll[] = {DType::kF32, DType::kBF16, DType::kF16, DType::kF64, DType::kI64,
                          DType::kI32, DType::kI16,  DType::kI8,  DType::kU8,  DType::kBool};

/// A number from sign, exponent and mantissa by IEEE 754's definition, in double.
double value_of(uint16_t bits, int exponent_bits) {
  const int mantissa_bits = 15 - exponent_bits;
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const int exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

void expect_same(double actual, double expected, uint32_t bits) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(actual)) << std::hex << bits;
    return;
  }
  EXPECT_EQ(actual, expected) << std::hex << bits;
  EXPECT_EQ(std::signbit(actual), std::signbit(expected)) << std::hex << bits;
}

TEST(DType, names_and_sizes) {
  const std::pair<const char*, size_t> expected[] = {{"F32", 4}, {"BF16", 2}, {"F16", 2}, {"F64", 8}, {"I64", 8},
                                                     {"I32", 4}, {"I16", 2},  {"I8", 1},  {"U8", 1},  {"BOOL", 1}};
  for (size_t i = 0; i < std::size(kAll); ++i) {
    EXPECT_EQ(dtype_name(kAll[i]), expected[i].first);
    EXPECT_EQ(dtype_size(kAll[i]), expected[i].second);
    EXPECT_EQ(dtype_from_name(expected[i].first), kAll[i]);
  }
  EXPECT_EQ(dtype_from_name("f32"), std::nullopt);
  EXPECT_EQ(dtype_from_name("F8_E4M3"), std::nullopt);
  EXPECT_EQ(dtype_from_name(""), std::nullopt);
}

TEST(DType, every_bf16_and_f16_has_its_value) {
  for (uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
    const auto pattern = static_cast<uint16_t>(bits);
    expect_same(bf16_to_f32(pattern), value_of(pattern, 8), bits);
    expect_same(f16_to_f32(pattern), value_of(pattern, 5), bits);
  }
}

TEST(DType, every_bf16_survives_a_round_trip) {
  for (uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
    const auto pattern = static_cast<uint16_t>(bits);
    const uint16_t back = f32_to_bf16(bf16_to_f32(pattern));
    if (std::isnan(value_of(pattern, 8))) {
      EXPECT_EQ(back, pattern | 0x40) << "a quiet NaN of the same sign and payload";
    } else {
      EXPECT_EQ(back, pattern);
    }
  }
}

// Between each bf16 and the next: a little below the middle, the middle, a little above, as distances in double say.
TEST(DType, rounding_to_bf16_is_to_nearest_even) {
  for (uint32_t bits = 0; bits < 0x7F80; ++bits) {
    const auto low = static_cast<uint16_t>(bits);
    const auto high = static_cast<uint16_t>(bits + 1);
    const double low_value = value_of(low, 8);
    const double high_value = high == 0x7F80 ? std::ldexp(1, 128) : value_of(high, 8);  // where infinity begins
    for (const uint32_t rest : {0u, 1u, 0x1234u, 0x7FFFu, 0x8000u, 0x8001u, 0xFEDCu, 0xFFFFu}) {
      const auto value = std::bit_cast<float>(bits << 16 | rest);
      const double to_low = value - low_value;
      const double to_high = high_value - value;
      const bool take_low = to_low < to_high || (to_low == to_high && low % 2 == 0);
      const uint16_t expected = take_low ? low : high;
      EXPECT_EQ(f32_to_bf16(value), expected) << value;
      EXPECT_EQ(f32_to_bf16(-value), expected | 0x8000) << -value;
    }
  }
}

TEST(DType, a_nan_never_becomes_infinity) {
  for (const uint32_t bits : {0x7F800001u, 0x7F80FFFFu, 0x7FFFFFFFu, 0xFF800001u, 0xFFFFFFFFu}) {
    EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(bits))))) << std::hex << bits;
  }
}

TEST(DType, arrays_are_converted_from_any_address_and_offset) {
  const std::vector<float> values = {1.5f, -0.25f, 3.0f, 0.0f, -0x1p-14f, 65504.0f, 0x1p-24f};
  const std::vector<uint16_t> halves = {0x3E00, 0xB400, 0x4200, 0x0000, 0x8400, 0x7BFF, 0x0001};
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    std::vector<float> expected = values;
    std::vector<std::byte> array(values.size() * dtype_size(dtype) + 1);
    for (size_t i = 0; i < values.size(); ++i) {
      std::byte* to = array.data() + 1 + i * dtype_size(dtype);  // an odd address
      const uint16_t bits = dtype == DType::kF16 ? halves[i] : f32_to_bf16(values[i]);
      if (dtype == DType::kBF16) expected[i] = bf16_to_f32(bits);
      if (dtype == DType::kF32) {
        std::memcpy(to, &values[i], sizeof(float));
      } else {
        std::memcpy(to, &bits, sizeof bits);
      }
    }
    for (int64_t offset = 0; offset < std::ssize(values); ++offset) {
      EXPECT_EQ(load_as_f32(array.data() + 1, dtype, offset), expected[static_cast<size_t>(offset)]);
      std::vector<float> converted(static_cast<size_t>(std::ssize(values) - offset));
      convert_to_f32(converted.data(), array.data() + 1, dtype, offset, std::ssize(converted));
      EXPECT_EQ(converted, std::vector<float>(expected.begin() + offset, expected.end())) << dtype_name(dtype);
    }
  }
  convert_to_f32(nullptr, nullptr, DType::kF32, 0, 0);
}

}  // namespace
}  // namespace heartmula
