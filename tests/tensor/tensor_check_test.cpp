#include "tensor/tensor_check.h"

#include <gmock/gmock.h>

#include <limits>
#include <vector>

#include "base/testing.h"

namespace heartmula {
namespace {

using testing::StartsWith;

std::string refusal(std::span<const float> values, bool may_be_zero = false) {
  return error_of(ErrorKind::kUser, [&] {
    check_values(std::as_bytes(values), DType::kF32, may_be_zero, "a.weight", "model.safetensors");
  });
}

void expect_good(std::span<const float> values, bool may_be_zero = false) {
  EXPECT_NO_THROW(check_values(std::as_bytes(values), DType::kF32, may_be_zero, "a.weight", "model.safetensors"));
}

TEST(AllFinite, tells_numbers_from_what_is_none) {
  using Limits = std::numeric_limits<float>;
  EXPECT_TRUE(all_finite({}));
  EXPECT_TRUE(all_finite(std::vector<float>{0, -0.0f, Limits::max(), Limits::lowest(), Limits::denorm_min()}));
  for (const float value : {Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN(), -Limits::signaling_NaN()}) {
    for (size_t place = 0; place < 37; ++place) {
      std::vector<float> values(37, 1.0f);
      values[place] = value;
      EXPECT_FALSE(all_finite(values)) << place;
    }
  }
}

TEST(CheckValues, refuses_a_tensor_of_zeros) {
  for (const size_t elements : {1u, 64u, 100u, 513u, 100'003u}) {
    std::vector<float> values(elements);
    EXPECT_THAT(refusal(values), StartsWith("model.safetensors: tensor a.weight is all zeros: a download"));
    expect_good(values, true);
    for (const size_t place : {size_t{0}, elements / 3, elements - 1}) {
      values[place] = 1e-30f;
      expect_good(values);
      values[place] = 0;
    }
  }
  expect_good({});
}

TEST(CheckValues, finds_what_is_no_number_in_small_tensors_and_in_long_stretches_of_large_ones) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (size_t place = 0; place < 512; ++place) {
    std::vector<float> values(512, 1.0f);
    values[place] = nan;
    EXPECT_THAT(refusal(values, true),
                StartsWith("model.safetensors: tensor a.weight holds values that are not finite"))
        << place;
  }
  for (const size_t first : {0u, 40'000u, 80'000u}) {
    std::vector<float> values(100'003, 1.0f);
    std::fill_n(values.begin() + static_cast<int64_t>(first), 20'000, nan);
    refusal(values);
  }
}

TEST(CheckValues, reads_short_floats_that_are_not_aligned) {
  const std::vector<std::byte> zeros(2001);
  std::vector<std::byte> infinite = zeros;
  infinite[1] = std::byte{0x80};
  infinite[2] = std::byte{0x7F};
  const auto data = [](const std::vector<std::byte>& bytes) { return std::span(bytes).subspan(1); };
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { check_values(data(zeros), DType::kBF16, false, "t", "f"); }),
              StartsWith("f: tensor t is all zeros"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { check_values(data(infinite), DType::kBF16, false, "t", "f"); }),
              StartsWith("f: tensor t holds values"));
}

}  // namespace
}  // namespace heartmula
