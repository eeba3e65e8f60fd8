#include "codec/noise.h"

#include <array>

#include "base/random.h"

namespace heartmula {

void PhiloxCodecNoise::fill(int64_t window, int64_t first_latent, std::span<float> noise, int64_t channels) const {
  const auto positions = static_cast<int64_t>(noise.size()) / channels;
  const bool by_window = key_ == Key::kWindow;
  const auto counted_window = static_cast<uint32_t>(by_window ? window : 0);
  for (int64_t position = 0; position < positions; ++position) {
    for (int64_t channel = 0; channel < channels; channel += 4) {
      const auto counted = static_cast<uint32_t>(by_window ? position : first_latent + position);
      const auto words = philox4x32({static_cast<uint32_t>(channel >> 2), counted, counted_window,
                                     static_cast<uint32_t>(RandomDomain::kCodecNoise)},
                                    philox_key(seed_));
      const std::array<double, 2> first = box_muller(words[0], words[1]);
      const std::array<double, 2> second = box_muller(words[2], words[3]);
      const double lanes[4] = {first[0], first[1], second[0], second[1]};
      for (int64_t lane = 0; lane < 4 && channel + lane < channels; ++lane) {
        noise[static_cast<size_t>(position * channels + channel + lane)] = static_cast<float>(lanes[lane]);
      }
    }
  }
}

}  // namespace heartmula
