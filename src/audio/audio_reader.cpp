#include "audio/audio_reader.h"

#include <sndfile.h>
#include <spdlog/spdlog.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <span>

#include "audio/format.h"
#include "audio/ogg.h"
#include "base/error.h"
#include "base/file.h"
#include "base/file_kind.h"

namespace heartmula {
namespace {

constexpr sf_count_t kFramesPerCall = 1 << 14;

struct CloseDecoder {
  void operator()(SNDFILE* file) const { sf_close(file); }
};

// libsndfile takes a WAV file that was cut short for a whole one: its chunk of samples claims more than there is. In a
// stream, whose length nobody knew when it was written, the claim is zero or close to the greatest number.
bool is_cut_wav(std::span<const std::byte> bytes) {
  constexpr uint32_t kStream = 0x7FFF0000;
  constexpr size_t kChunkHeader = 8;  // a name and a length
  const auto is_at = [bytes](size_t at, const char* name) { return std::memcmp(bytes.data() + at, name, 4) == 0; };
  size_t at = 12;
  if (bytes.size() < at || !is_at(8, "WAVE") || !(is_at(0, "RIFF") || is_at(0, "RF64"))) return false;
  uint64_t long_length = 0;  // of the samples, in an RF64 file
  while (at + kChunkHeader <= bytes.size()) {
    uint32_t length = 0;
    std::memcpy(&length, bytes.data() + at + 4, sizeof length);
    const size_t begin = at + kChunkHeader;
    if (is_at(at, "data")) {
      const uint64_t claimed = length == UINT32_MAX && long_length > 0 ? long_length : length;
      return (claimed < kStream || claimed == long_length) && claimed > bytes.size() - begin;
    }
    if (is_at(at, "ds64") && begin + 16 <= bytes.size()) {
      std::memcpy(&long_length, bytes.data() + begin + 8, sizeof long_length);
    }
    at = begin + length + length % 2;
  }
  return false;
}

}  // namespace

Audio read_audio(const std::filesystem::path& path) {
  // Says of a missing file, a folder or a pipe what is wrong with it, which libsndfile does not.
  refuse_unfinished_download(path);
  const std::shared_ptr<const MappedFile> mapped = MappedFile::open(path);
  const bool is_cut = is_cut_wav(mapped->bytes()) || is_cut_ogg(mapped->bytes());
  SF_INFO info = {};
  const std::unique_ptr<SNDFILE, CloseDecoder> file(sf_open(path.c_str(), SFM_READ, &info));
  if (file == nullptr) {
    refuse_other_kind(mapped->bytes(), FileKind::kAudio, path.string());
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
    spdlog::warn("{}: is cut short after {:.2f} s", path.string(), audio.duration_s());
  }
  if (audio.frames() == 0) throw user_error("{}: holds no samples", path.string());
  return audio;
}

}  // namespace heartmula
