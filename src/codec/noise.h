// Where the codec's noise comes from.
#pragma once

#include <cstdint>
#include <span>

namespace heartmula {

class CodecNoise {
 public:
  virtual ~CodecNoise() = default;
  /// The standard normal noise of a window, [positions, channels].
  virtual void fill(int64_t window, std::span<float> noise, int64_t channels) const = 0;
};

/// Philox keyed by seed, counted by (channel / 4, position, window); Box-Muller in double (decoding.md 2.1).
class PhiloxCodecNoise final : public CodecNoise {
 public:
  explicit PhiloxCodecNoise(uint64_t seed) : seed_(seed) {}
  void fill(int64_t window, std::span<float> noise, int64_t channels) const override;

 private:
  uint64_t seed_;
};

}  // namespace heartmula
