#include "audio/audio_reader.h"

#include <sndfile.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "audio/format.h"
#include "audio/mp3.h"
#include "audio/ogg.h"
#include "base/captured_stderr.h"
#include "base/error.h"
#include "base/file_kind.h"
#include "base/input.h"

namespace heartmula {
namespace {

constexpr sf_count_t kFramesPerRead = 1 << 14;

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

/// libsndfile's view of a file in memory.
class MemoryFile {
 public:
  explicit MemoryFile(std::span<const std::byte> bytes) : bytes_(bytes) {}

  SNDFILE* open(SF_INFO* info) {
    SF_VIRTUAL_IO calls = {
        .get_filelen = [](void* file) { return self(file).size(); },
        .seek = [](sf_count_t offset, int whence, void* file) { return self(file).seek(offset, whence); },
        .read = [](void* to, sf_count_t count, void* file) { return self(file).read(to, count); },
        .write = [](const void*, sf_count_t, void*) { return sf_count_t{0}; },
        .tell = [](void* file) { return self(file).at_; }};
    return sf_open_virtual(&calls, SFM_READ, info, this);
  }

 private:
  static MemoryFile& self(void* file) { return *static_cast<MemoryFile*>(file); }
  sf_count_t size() const { return static_cast<sf_count_t>(bytes_.size()); }
  sf_count_t seek(sf_count_t offset, int whence) {
    const sf_count_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? at_ : size();
    at_ = std::clamp<sf_count_t>(base + offset, 0, size());
    return at_;
  }
  sf_count_t read(void* to, sf_count_t count) {
    const sf_count_t got = std::clamp<sf_count_t>(count, 0, size() - at_);
    if (got > 0) std::memcpy(to, bytes_.data() + at_, static_cast<size_t>(got));
    at_ += got;
    return got;
  }

  std::span<const std::byte> bytes_;
  sf_count_t at_ = 0;
};

/// `is_cut`: what the file's own format says of its end.
Audio decode(const InputBytes& input, bool* is_cut) {
  SF_INFO info = {};
  MemoryFile memory(input.bytes());
  const std::unique_ptr<SNDFILE, CloseDecoder> file(memory.open(&info));
  if (file == nullptr) {
    if (!*is_cut) refuse_other_kind(input.bytes(), FileKind::kAudio, input.name());
    throw user_error("{}: not an audio file that can be read ({}{}); WAV, FLAC, Ogg, Opus and MP3 can", input.name(),
                     *is_cut ? "it is cut short; " : "", sf_strerror(nullptr));
  }
  if (info.channels > kChannels) {
    throw user_error("{}: has {} channels; mono and stereo can be read", input.name(), info.channels);
  }
  Audio audio;
  audio.rate_hz = info.samplerate;
  const auto channels = static_cast<size_t>(info.channels);
  audio.channels.resize(channels);
  std::vector<float> block(static_cast<size_t>(kFramesPerRead) * channels);
  // The length in a header may be wrong, and a stream has none: what can be read counts.
  for (sf_count_t got = 0; (got = sf_readf_float(file.get(), block.data(), kFramesPerRead)) > 0;) {
    for (size_t i = 0; i < static_cast<size_t>(got) * channels; ++i) {
      if (!std::isfinite(block[i])) {
        throw user_error("{}: sample {} is not a finite number", input.name(), audio.frames() + i / channels);
      }
    }
    for (size_t channel = 0; channel < channels; ++channel) {
      std::vector<float>& samples = audio.channels[channel];
      for (size_t i = channel; i < static_cast<size_t>(got) * channels; i += channels) samples.push_back(block[i]);
    }
  }
  if (sf_error(file.get()) != SF_ERR_NO_ERROR) {
    throw user_error("{}: is damaged after {:.2f} s: {}", input.name(), audio.duration_s(), sf_strerror(file.get()));
  }
  *is_cut = *is_cut || (info.frames < SF_COUNT_MAX && static_cast<sf_count_t>(audio.frames()) < info.frames);
  return audio;
}

}  // namespace

Audio read_audio(const InputBytes& input) {
  bool is_cut = is_cut_wav(input.bytes()) || is_cut_ogg(input.bytes()) || is_cut_mp3(input.bytes());
  CapturedStderr captured;  // libmpg123 prints its warnings
  Audio audio = decode(input, &is_cut);
  std::string printed = captured.end();
  printed.erase(printed.find_last_not_of('\n') + 1);
  if (!printed.empty()) spdlog::debug("{}: {}", input.name(), printed);
  if (is_cut) spdlog::warn("{}: is cut short after {:.2f} s", input.name(), audio.duration_s());
  if (audio.frames() == 0) throw user_error("{}: holds no samples", input.name());
  return audio;
}

Audio read_audio(const std::filesystem::path& path) {
  refuse_unfinished_download(path);
  return read_audio(InputBytes(path));
}

}  // namespace heartmula
