// Signals and files that the tests of measures share.
#pragma once

#include <sndfile.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <numbers>
#include <stdexcept>
#include <vector>

#include "audio/audio_reader.h"

namespace heartmula {

using Samples = std::vector<float>;

inline Samples sine(double amplitude, double hz, double seconds, int rate_hz = 48000) {
  Samples samples(static_cast<size_t>(std::lround(seconds * rate_hz)));
  for (size_t i = 0; i < samples.size(); ++i) {
    const double phase = 2 * std::numbers::pi * hz * static_cast<double>(i) / rate_hz;
    samples[i] = static_cast<float>(amplitude * std::sin(phase));
  }
  return samples;
}

/// White, uniform between -amplitude and amplitude; the same for the same seed everywhere (Knuth's 64-bit generator).
inline Samples noise(double amplitude, size_t count, uint64_t seed) {
  Samples samples(count);
  for (float& sample : samples) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    sample = static_cast<float>(amplitude * (static_cast<double>(seed >> 40) / (1 << 23) - 1));
  }
  return samples;
}

inline Samples operator+(Samples a, const Samples& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

inline Samples operator*(double factor, Samples a) {
  for (float& sample : a) sample = static_cast<float>(factor * sample);
  return a;
}

/// A WAV file of floats.
inline void write_wav(const std::filesystem::path& path, const std::vector<Samples>& channels, int rate_hz = 48000) {
  SF_INFO info = {};
  info.samplerate = rate_hz;
  info.channels = static_cast<int>(channels.size());
  info.format = SF_FORMAT_WAV | SF_FORMAT_FLOAT;
  SNDFILE* file = sf_open(path.c_str(), SFM_WRITE, &info);
  if (file == nullptr) throw std::runtime_error("cannot write " + path.string());
  Samples interleaved;
  for (size_t i = 0; i < channels[0].size(); ++i) {
    for (const Samples& samples : channels) interleaved.push_back(samples[i]);
  }
  sf_writef_float(file, interleaved.data(), static_cast<sf_count_t>(channels[0].size()));
  sf_close(file);
}

}  // namespace heartmula
