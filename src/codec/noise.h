// Where the codec's noise comes from.
#pragma once

#include <cstdint>
#include <span>

namespace heartmula {

class CodecNoise {
 public:
  virtual ~CodecNoise() = default;
  /// The standard normal noise of a window, [positions, channels]; `first` is the place of its first latent in the
  /// song.
  virtual void fill(int64_t window, int64_t first, std::span<float> noise, int64_t channels) const = 0;
};

/// Philox keyed by seed, counted by (channel / 4, position, window); Box-Muller in double (decoding.md 2.1).
class PhiloxCodecNoise final : public CodecNoise {
 public:
  enum class Key {
    kSong,    // a latent has its noise wherever windows begin: the position is that in the song, in window 0
    kWindow,  // a window has its own, as in the reference
  };
  explicit PhiloxCodecNoise(uint64_t seed, Key key = Key::kSong) : seed_(seed), key_(key) {}
  void fill(int64_t window, int64_t first, std::span<float> noise, int64_t channels) const override;

 private:
  uint64_t seed_;
  Key key_;
};

}  // namespace heartmula
