// Counter-based random numbers: the same numbers whoever asks, in whatever order.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "base/everywhere.h"

namespace heartmula {

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
HEARTMULA_EVERYWHERE inline std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter,
                                                               std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    if (round > 0) {
      key[0] += 0x9E3779B9u;
      key[1] += 0xBB67AE85u;
    }
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
  }
  return counter;
}

/// The key of every stream of a song: the low and the high half of its seed.
HEARTMULA_EVERYWHERE inline std::array<uint32_t, 2> philox_key(uint64_t seed) {
  return {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
}

/// The last word of the counter, so that no two uses share numbers.
enum class RandomDomain : uint32_t { kCodes = 0, kCodecNoise = 1, kGuesses = 2, kVerdicts = 3, kResiduals = 4 };

/// Uniform in (0, 1), never 0 or 1: the middle of one of 2^23 equal intervals.
HEARTMULA_EVERYWHERE inline double open_uniform(uint32_t word) {
  return ((word >> 9) + 0.5) * 0x1p-23;
}

/// Two standard normal numbers from two words (Box and Muller, 1958), in double.
inline std::array<double, 2> box_muller(uint32_t word0, uint32_t word1) {
  const double radius = std::sqrt(-2.0 * std::log(open_uniform(word0)));
  const double angle = 2.0 * std::numbers::pi * (word1 * 0x1p-32);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

}  // namespace heartmula
