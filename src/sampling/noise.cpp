#include "sampling/noise.h"

#include <bit>

#include "base/error.h"
#include "base/random.h"

namespace heartmula {

// x = 2^e m with m in [sqrt(1/2), sqrt(2)); log m = 2 artanh(s), s = (m - 1) / (m + 1), |s| < 0.172.
double portable_log(double x) {
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

double PhiloxNoise::log_exponential(uint32_t frame, uint32_t codebook, uint32_t token) const {
  const auto words =
      philox4x32({token >> 2, codebook, frame, static_cast<uint32_t>(RandomDomain::kCodes)}, philox_key(seed_));
  return portable_log(-portable_log(open_uniform(words[token & 3])));
}

double TapeNoise::log_exponential(uint32_t frame, uint32_t codebook, uint32_t token) const {
  const size_t draw = static_cast<size_t>(frame) * static_cast<size_t>(codebooks_) + codebook;
  const size_t index = draw * static_cast<size_t>(vocabulary_) + token;
  if (index >= draws_.size()) throw user_error("the noise tape ends before frame {}", frame);
  return portable_log(draws_[index]);
}

}  // namespace heartmula
