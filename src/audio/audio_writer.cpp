#include "audio/audio_writer.h"

#include <sndfile.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "audio/ogg.h"
#include "audio/output_stream.h"
#include "base/error.h"
#include "base/file.h"

namespace heartmula {
namespace {

/// libsndfile puts a whole call's Vorbis samples on its stack: 60 s crash (1.2).
constexpr size_t kFramesPerCall = kSampleRateHz / 4;

constexpr double kVorbisQuality = 0.6;
constexpr double kMp3Compression = 0.2;     // lame -V 2
constexpr double kOpusCompression = 0.704;  // 6 kbit/s at 1, 256 at 0, for each channel: 80

int sndfile_format(AudioFormat format, SampleFormat samples) {
  const int subtype = samples == SampleFormat::kS16   ? SF_FORMAT_PCM_16
                      : samples == SampleFormat::kS24 ? SF_FORMAT_PCM_24
                                                      : SF_FORMAT_FLOAT;
  switch (format) {
    case AudioFormat::kWav:
      return SF_FORMAT_WAV | subtype;
    case AudioFormat::kFlac:
      return SF_FORMAT_FLAC | subtype;
    case AudioFormat::kOgg:
      return SF_FORMAT_OGG | SF_FORMAT_VORBIS;
    case AudioFormat::kOpus:
      return SF_FORMAT_OGG | SF_FORMAT_OPUS;
    case AudioFormat::kMp3:
      return SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III;
  }
  return 0;
}

SF_VIRTUAL_IO virtual_io() {
  SF_VIRTUAL_IO io = {};
  io.get_filelen = [](void* stream) -> sf_count_t { return static_cast<OutputStream*>(stream)->size(); };
  io.tell = [](void* stream) -> sf_count_t { return static_cast<OutputStream*>(stream)->position(); };
  io.seek = [](sf_count_t offset, int whence, void* stream) -> sf_count_t {
    auto& output = *static_cast<OutputStream*>(stream);
    output.seek((whence == SEEK_SET ? 0 : whence == SEEK_CUR ? output.position() : output.size()) + offset);
    return output.position();
  };
  io.read = [](void* bytes, sf_count_t count, void* stream) -> sf_count_t {
    return static_cast<sf_count_t>(static_cast<OutputStream*>(stream)->read(bytes, static_cast<size_t>(count)));
  };
  io.write = [](const void* bytes, sf_count_t count, void* stream) -> sf_count_t {
    static_cast<OutputStream*>(stream)->write(bytes, static_cast<size_t>(count));
    return count;
  };
  return io;
}

/// A WAV header that leaves before the length is known: 0xFFFFFFFF stands for "until the end".
void open_end_of_wav(std::vector<std::byte>& head) {
  constexpr size_t kChunkHeader = 8;
  const auto set_unknown = [&](size_t at) {
    std::fill_n(head.begin() + static_cast<ptrdiff_t>(at), 4, std::byte{0xFF});
  };
  set_unknown(4);
  for (size_t at = 12; at + kChunkHeader <= head.size();) {
    if (std::memcmp(head.data() + at, "data", 4) == 0) {
      set_unknown(at + 4);
      return;
    }
    size_t length = 0;
    for (size_t i = 0; i < 4; ++i) length |= std::to_integer<size_t>(head[at + 4 + i]) << (8 * i);
    at += kChunkHeader + length + length % 2;
  }
}

/// As an integer of `bits`, in the upper bits of 32: libsndfile takes those as they are, while its own conversion from
/// floats rounds in FLAC and truncates in WAV.
int32_t quantize(float sample, int bits) {
  const double full_scale = std::ldexp(1.0, bits - 1);
  const double rounded = std::nearbyint(double{sample} * full_scale);
  const auto value = static_cast<int64_t>(std::clamp(rounded, -full_scale, full_scale - 1));
  return static_cast<int32_t>(value * (int64_t{1} << (32 - bits)));
}

}  // namespace

struct AudioWriter::State {
  std::filesystem::path path;
  AudioFormat format;
  SampleFormat samples;
  std::optional<AtomicFile> file;  // of a regular file
  std::optional<OutputStream> output;
  SNDFILE* encoder = nullptr;
  bool empty = true;
  std::vector<float> floats;
  std::vector<int32_t> integers;

  ~State() {
    // Destroying is giving up: what the encoder still writes is of no use, but it must not outlive its output.
    if (encoder != nullptr) sf_close(encoder);
  }

  [[noreturn]] void fail() const {
    if (output->error() == ECANCELED) throw Error(ErrorKind::kCancelled, "cancelled");
    if (output->error() != 0) {
      throw failure("{}: {}", path.string(), std::generic_category().message(output->error()));
    }
    throw failure("{}: {}", path.string(), sf_strerror(encoder));
  }
  void check_output() const {
    if (output->error() != 0) fail();
  }
};

AudioWriter::AudioWriter(const std::filesystem::path& path, AudioFormat format, SampleFormat samples,
                         const CancelToken* cancel)
    : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.path = path;
  state.format = format;
  state.samples = samples;
  const OutputKind kind = check_writable(path);
  if (kind == OutputKind::kRegular) state.file.emplace(path);
  state.output.emplace(state.file ? state.file->temporary_path() : path, kind, cancel);
  if (format == AudioFormat::kWav) state.output->set_edit_head(open_end_of_wav);

  SF_INFO info = {};
  info.samplerate = kSampleRateHz;
  info.channels = kChannels;
  info.format = sndfile_format(format, samples);
  SF_VIRTUAL_IO io = virtual_io();
  state.encoder = sf_open_virtual(&io, SFM_WRITE, &info, &*state.output);
  if (state.encoder == nullptr) state.fail();
  if (format == AudioFormat::kWav) {
    // The PEAK chunk holds the time of day: the same song would not be the same file.
    sf_command(state.encoder, SFC_SET_ADD_PEAK_CHUNK, nullptr, SF_FALSE);
  } else if (format == AudioFormat::kOgg) {
    double quality = kVorbisQuality;
    sf_command(state.encoder, SFC_SET_VBR_ENCODING_QUALITY, &quality, sizeof(quality));
  } else if (format == AudioFormat::kOpus) {
    double compression = kOpusCompression;
    sf_command(state.encoder, SFC_SET_COMPRESSION_LEVEL, &compression, sizeof(compression));
  } else if (format == AudioFormat::kMp3) {
    int mode = SF_BITRATE_MODE_VARIABLE;
    sf_command(state.encoder, SFC_SET_BITRATE_MODE, &mode, sizeof(mode));
    double compression = kMp3Compression;
    sf_command(state.encoder, SFC_SET_COMPRESSION_LEVEL, &compression, sizeof(compression));
  }
  state.check_output();
}

AudioWriter::~AudioWriter() = default;

void AudioWriter::write(std::span<const float> left, std::span<const float> right) {
  State& state = *state_;
  const bool lossy = is_lossy(state.format);
  const bool as_integers = state.samples != SampleFormat::kF32;
  const int bits = state.samples == SampleFormat::kS16 ? 16 : 24;
  for (size_t first = 0; first < left.size(); first += kFramesPerCall) {
    const size_t count = std::min(kFramesPerCall, left.size() - first);
    state.floats.resize(kChannels * count);
    for (size_t i = 0; i < count; ++i) {
      state.floats[kChannels * i] = left[first + i];
      state.floats[kChannels * i + 1] = right[first + i];
    }
    for (float& sample : state.floats) {
      if (std::isnan(sample)) sample = 0;
      if (lossy) sample = std::clamp(sample, -1.0f, 1.0f);  // an infinite one would break the encoder's psychoacoustics
    }
    const auto frames = static_cast<sf_count_t>(count);
    sf_count_t written = 0;
    if (as_integers) {
      state.integers.resize(state.floats.size());
      std::transform(state.floats.begin(), state.floats.end(), state.integers.begin(),
                     [&](float sample) { return quantize(sample, bits); });
      written = sf_writef_int(state.encoder, state.integers.data(), frames);
    } else {
      written = sf_writef_float(state.encoder, state.floats.data(), frames);
    }
    state.empty = false;
    state.check_output();
    if (written != frames || sf_error(state.encoder) != SF_ERR_NO_ERROR) state.fail();
  }
}

void AudioWriter::finish(const Tags& tags) {
  State& state = *state_;
  // An encoder that got nothing writes nothing, or not a valid file.
  if (state.empty) throw failure("{}: nothing is written: the song is empty", state.path.string());
  const int closed = sf_close(std::exchange(state.encoder, nullptr));
  state.check_output();
  if (closed != SF_ERR_NO_ERROR) throw failure("{}: {}", state.path.string(), sf_error_number(closed));
  if (state.file) {
    if (state.format == AudioFormat::kOgg || state.format == AudioFormat::kOpus) set_ogg_serial(*state.output);
    write_tags(*state.output, state.format, tags, state.path);
  }
  state.output->close();
  state.check_output();
  if (state.file) state.file->commit(/*sync=*/true);
}

}  // namespace heartmula
