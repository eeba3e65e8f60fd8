#include "audio/audio_reader.h"

#include <sndfile.h>

#include <cmath>
#include <memory>

#include "audio/format.h"
#include "base/error.h"
#include "base/file.h"

namespace heartmula {
namespace {

constexpr sf_count_t kFramesPerCall = 1 << 14;

struct CloseDecoder {
  void operator()(SNDFILE* file) const { sf_close(file); }
};

}  // namespace

Audio read_audio(const std::filesystem::path& path) {
  // Says of a missing file, a folder or a pipe what is wrong with it, which libsndfile does not.
  MappedFile::open(path);
  SF_INFO info = {};
  const std::unique_ptr<SNDFILE, CloseDecoder> file(sf_open(path.c_str(), SFM_READ, &info));
  if (file == nullptr) {
    throw user_error("{}: not an audio file that can be read ({}); WAV, FLAC, Ogg, Opus and MP3 can", path.string(),
                     sf_strerror(nullptr));
  }
  if (info.channels > kChannels) {
    throw user_error("{}: has {} channels; mono and stereo can be read", path.string(), info.channels);
  }
  Audio audio;
  audio.rate_hz = info.samplerate;
  const auto channels = static_cast<size_t>(info.channels);
  audio.channels.resize(channels);
  std::vector<float> block(static_cast<size_t>(kFramesPerCall) * channels);
  // The length in a header may be wrong, and a stream has none: what can be read counts.
  for (sf_count_t got = 0; (got = sf_readf_float(file.get(), block.data(), kFramesPerCall)) > 0;) {
    for (size_t i = 0; i < static_cast<size_t>(got) * channels; ++i) {
      if (!std::isfinite(block[i])) {
        throw user_error("{}: sample {} is not a finite number", path.string(), audio.frames() + i / channels);
      }
    }
    for (size_t channel = 0; channel < channels; ++channel) {
      std::vector<float>& samples = audio.channels[channel];
      for (size_t i = channel; i < static_cast<size_t>(got) * channels; i += channels) samples.push_back(block[i]);
    }
  }
  if (sf_error(file.get()) != SF_ERR_NO_ERROR) {
    throw user_error("{}: is damaged after {:.2f} s: {}", path.string(), audio.duration_s(), sf_strerror(file.get()));
  }
  if (audio.frames() == 0) throw user_error("{}: holds no samples", path.string());
  return audio;
}

}  // namespace heartmula
