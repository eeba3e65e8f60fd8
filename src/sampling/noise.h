// Where the randomness of sampling comes from.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/random.h"

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

/// Noise of guesses that are verified as a block, of what becomes of them and of what comes in their place. A position
/// may be guessed several times, in steps that begin at other frames or behind more codes that are known: each time
/// its noise is new, for which guesses fell before depends on the old one.
class RoundNoise final : public SamplingNoise {
 public:
  RoundNoise(uint64_t seed, RandomDomain domain, int64_t first_frame, int64_t known)
      : seed_(seed), domain_(domain), round_(static_cast<uint32_t>(first_frame * 8 + known)) {}
  double log_exponential(uint32_t frame, uint32_t codebook, uint32_t token) const override;
  /// In (0, 1); with log_exponential of the same domain it is not independent.
  double uniform(uint32_t frame, uint32_t codebook) const;

 private:
  std::array<uint32_t, 4> words(uint32_t frame, uint32_t codebook, uint32_t block) const;

  uint64_t seed_;
  RandomDomain domain_;
  uint32_t round_;
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
