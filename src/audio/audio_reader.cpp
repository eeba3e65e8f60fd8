#include "audio/audio_reader.h"

#include <sndfile.h>
#include <spdlog/spdlog.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <span>

#include "audio/format.h"
#include "base/error.h"
#include "base/file.h"

namespace heartmula {
namespace {

constexpr sf_count_t kFramesPerCall = 1 << 14;

struct CloseDecoder {
  void operator()(SNDFILE* file) const { sf_close(file); }
};

// libsndfile takes a WAV file that was cut short for a whole one. The field of a stream, whose length nobody knew when
// it was written, is zero or close to the greatest number.
bool is_cut_wav(std::span<const std::byte> bytes) {
  constexpr uint32_t kStream = 0x7FFF0000;
  uint32_t after_field = 0;
  constexpr size_t kField = 4;
  if (bytes.size() < kField + sizeof after_field || std::memcmp(bytes.data(), "RIFF", kField) != 0) return false;
  std::memcpy(&after_field, bytes.data() + kField, sizeof after_field);
  return after_field < kStream && kField + sizeof after_field + after_field > bytes.size();
}

}  // namespace

Audio read_audio(const std::filesystem::path& path) {
  // Says of a missing file, a folder or a pipe what is wrong with it, which libsndfile does not.
  const bool is_cut = is_cut_wav(MappedFile::open(path)->bytes());
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
  if (is_cut || (info.frames < SF_COUNT_MAX && static_cast<sf_count_t>(audio.frames()) < info.frames)) {
    spdlog::warn("{}: is cut short after {:.2f} s: less than its header says", path.string(), audio.duration_s());
  }
  if (audio.frames() == 0) throw user_error("{}: holds no samples", path.string());
  return audio;
}

}  // namespace heartmula
