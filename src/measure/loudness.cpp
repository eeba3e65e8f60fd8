#include "measure/loudness.h"

#include <ebur128.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "base/error.h"

namespace heartmula {
namespace {

constexpr size_t kFramesPerCall = 1 << 14;

struct DestroyMeter {
  void operator()(ebur128_state* meter) const { ebur128_destroy(&meter); }
};

}  // namespace

double integrated_loudness(const Audio& audio) {
  const size_t channels = audio.channels.size();
  const std::unique_ptr<ebur128_state, DestroyMeter> meter(
      ebur128_init(static_cast<unsigned>(channels), static_cast<unsigned long>(audio.rate_hz), EBUR128_MODE_I));
  if (meter == nullptr) {
    throw user_error("loudness cannot be measured at {} Hz with {} channels", audio.rate_hz, channels);
  }
  std::vector<float> block(kFramesPerCall * channels);
  for (size_t first = 0; first < audio.frames(); first += kFramesPerCall) {
    const size_t count = std::min(kFramesPerCall, audio.frames() - first);
    for (size_t channel = 0; channel < channels; ++channel) {
      for (size_t i = 0; i < count; ++i) block[i * channels + channel] = audio.channels[channel][first + i];
    }
    if (ebur128_add_frames_float(meter.get(), block.data(), count) != EBUR128_SUCCESS) throw std::bad_alloc();
  }
  double loudness = 0;
  if (ebur128_loudness_global(meter.get(), &loudness) != EBUR128_SUCCESS) throw std::bad_alloc();
  return std::isfinite(loudness) ? loudness : -std::numeric_limits<double>::infinity();
}

}  // namespace heartmula
