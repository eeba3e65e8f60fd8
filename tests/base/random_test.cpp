#include "base/random.h"

#include <gtest/gtest.h>

namespace heartmula {
namespace {

using Counter = std::array<uint32_t, 4>;
using Key = std::array<uint32_t, 2>;

// The vectors of Random123's kat_vectors, philox4x32 with 10 rounds.
TEST(Random, philox_gives_the_published_vectors) {
  EXPECT_EQ(philox4x32(Counter{}, Key{}), (Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32(Counter{~0u, ~0u, ~0u, ~0u}, Key{~0u, ~0u}),
            (Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32(Counter{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, Key{0xa4093822, 0x299f31d0}),
            (Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, key_is_low_half_then_high_half) {
  EXPECT_EQ(philox_key(0x0123456789abcdef), (Key{0x89abcdef, 0x01234567}));
}

TEST(Random, open_uniform_is_never_0_or_1) {
  EXPECT_EQ(open_uniform(0), 0x1p-24);
  EXPECT_EQ(open_uniform(~0u), 1 - 0x1p-24);
  EXPECT_EQ(open_uniform(0x80000000), 0.5 + 0x1p-24);
  EXPECT_EQ(static_cast<float>(open_uniform(~0u)), 1 - 0x1p-24f) << "exact in float, too";
}

TEST(Random, box_muller_is_normal) {
  constexpr int kPairs = 100'000;
  double sum = 0;
  double squares = 0;
  double fourth_powers = 0;
  double products = 0;
  for (uint32_t i = 0; i < kPairs; ++i) {
    const Counter words = philox4x32({i, 0, 0, 0}, philox_key(1));
    const auto [x, y] = box_muller(words[0], words[1]);
    sum += x + y;
    squares += x * x + y * y;
    fourth_powers += x * x * x * x + y * y * y * y;
    products += x * y;
  }
  // Five standard deviations of each estimate.
  EXPECT_NEAR(sum / (2 * kPairs), 0, 5 / std::sqrt(2.0 * kPairs));
  EXPECT_NEAR(squares / (2 * kPairs), 1, 5 * std::sqrt(2 / (2.0 * kPairs)));
  EXPECT_NEAR(fourth_powers / (2 * kPairs), 3, 5 * std::sqrt(96 / (2.0 * kPairs)));
  EXPECT_NEAR(products / kPairs, 0, 5 / std::sqrt(1.0 * kPairs));
}

TEST(Random, box_muller_is_finite_at_the_ends) {
  EXPECT_NEAR(box_muller(0, 0)[0], std::sqrt(48 * std::numbers::ln2), 1e-12);  // the greatest that there is, 5.77
  EXPECT_EQ(box_muller(0, 0)[1], 0);
  EXPECT_NEAR(box_muller(~0u, 0x40000000)[1], std::sqrt(0x1p-23), 1e-9);
}

}  // namespace
}  // namespace heartmula
