// Where the randomness of sampling comes from.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace heartmula {

/// The logarithm of the exponential race's draws: log E, E ~ Exp(1), for each (frame, codebook, token).
class SamplingNoise {
 public:
  virtual ~SamplingNoise() = default;
  virtual double log_exponential(uint32_t frame, uint32_t codebook, uint32_t token) const = 0;
};

/// Philox keyed by seed, counted by (token / 4, codebook, frame): decoding.md 2.1.
class PhiloxNoise final : public SamplingNoise {
 public:
  explicit PhiloxNoise(uint64_t seed) : seed_(seed) {}
  uint64_t seed() const { return seed_; }
  double log_exponential(uint32_t frame, uint32_t codebook, uint32_t token) const override;

 private:
  uint64_t seed_;
};

/// Recorded Exp(1) draws [frames * codebooks, vocabulary], in the order of sampling.
class TapeNoise final : public SamplingNoise {
 public:
  TapeNoise(std::span<const float> draws, int64_t codebooks, int64_t vocabulary)
      : draws_(draws), codebooks_(codebooks), vocabulary_(vocabulary) {}
  std::span<const float> draws() const { return draws_; }
  int64_t codebooks() const { return codebooks_; }
  int64_t vocabulary() const { return vocabulary_; }
  /// Throws Error(kUser) past the end of the tape.
  double log_exponential(uint32_t frame, uint32_t codebook, uint32_t token) const override;

 private:
  std::span<const float> draws_;
  int64_t codebooks_;
  int64_t vocabulary_;
};

}  // namespace heartmula
