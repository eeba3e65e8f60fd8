// A logarithm that is the same on every machine, GPUs included.
#pragma once

#include <bit>
#include <cstdint>

#include "base/everywhere.h"

namespace heartmula {

/// The natural logarithm to within 2 ulp in double, from additions, multiplications and divisions alone: libraries
/// differ in the last bit, and a song must not depend on the library. x > 0 and normal.
///
/// x = 2^e m with m in [sqrt(1/2), sqrt(2)); log m = 2 artanh(s), s = (m - 1) / (m + 1), |s| < 0.172.
HEARTMULA_EVERYWHERE inline double portable_log(double x) {
  constexpr double kSqrtHalf = 0.70710678118654752440;
  constexpr double kLn2High = 0x1.62e42fefa3800p-1;  // e * kLn2High is exact
  constexpr double kLn2Low = 0x1.ef35793c76730p-45;
  const auto bits = std::bit_cast<uint64_t>(x);
  int exponent = static_cast<int>(bits >> 52) - 1022;
  double mantissa = std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFFu) | 0x3FE0000000000000u);  // [0.5, 1)
  if (mantissa < kSqrtHalf) {
    mantissa *= 2.0;
    --exponent;
  }
  const double s = (mantissa - 1.0) / (mantissa + 1.0);
  const double square = s * s;
  double series = 0.0;
  for (int n = 21; n >= 3; n -= 2) series = (series + 1.0 / n) * square;
  const double log_mantissa = 2.0 * s + 2.0 * s * series;
  return exponent * kLn2High + (log_mantissa + exponent * kLn2Low);
}

}  // namespace heartmula
