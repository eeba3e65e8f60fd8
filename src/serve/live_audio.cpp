#include "serve/live_audio.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <system_error>
#include <utility>

#include "audio/format.h"
#include "base/error.h"

namespace heartmula {
namespace {

constexpr size_t kMostBytes = size_t{96} << 10;

static_assert(std::endian::native == std::endian::little, "samples are written as they lie in memory");

void put(std::string& bytes, uint64_t value, int size) {
  for (int i = 0; i < size; ++i) bytes += static_cast<char>(value >> (8 * i));
}

int16_t to_s16(float sample) {
  if (std::isnan(sample)) return 0;
  return static_cast<int16_t>(std::clamp(std::nearbyint(double{sample} * 32768.0), -32768.0, 32767.0));
}

}  // namespace

LiveAudioWriter::LiveAudioWriter(std::filesystem::path path)
    : path_(std::move(path)), descriptor_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) {
  if (descriptor_ < 0) throw failure("{}: {}", path_.string(), std::generic_category().message(errno));
}

LiveAudioWriter::~LiveAudioWriter() {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
  ::close(descriptor_);
}

void LiveAudioWriter::write(std::span<const float> left, std::span<const float> right) {
  samples_ = interleaved_s16(left, right);
  auto bytes = std::as_bytes(std::span(samples_));
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

std::unique_ptr<LiveAudioReader> LiveAudioReader::open(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return nullptr;
  return std::unique_ptr<LiveAudioReader>(new LiveAudioReader(descriptor));
}

LiveAudioReader::~LiveAudioReader() {
  ::close(descriptor_);
}

std::string_view LiveAudioReader::read() {
  buffer_.resize(kMostBytes);
  const ssize_t count = ::pread(descriptor_, buffer_.data(), buffer_.size(), offset_);
  const size_t whole = static_cast<size_t>(std::max<ssize_t>(count, 0)) / 4 * 4;  // samples of both channels
  offset_ += static_cast<int64_t>(whole);
  return std::string_view(buffer_).substr(0, whole);
}

bool LiveAudioReader::is_over() const {
  struct stat status = {};
  return ::fstat(descriptor_, &status) != 0 || status.st_nlink == 0;
}

std::string endless_wav_header() {
  constexpr uint64_t kUnknown = 0xffffffff;
  constexpr uint64_t kFrameBytes = 2 * kChannels;
  std::string header = "RIFF";
  put(header, kUnknown, 4);
  header += "WAVEfmt ";
  put(header, 16, 4);
  put(header, 1, 2);  // PCM
  put(header, kChannels, 2);
  put(header, kSampleRateHz, 4);
  put(header, kSampleRateHz * kFrameBytes, 4);
  put(header, kFrameBytes, 2);
  put(header, 16, 2);
  header += "data";
  put(header, kUnknown, 4);
  return header;
}

std::vector<int16_t> interleaved_s16(std::span<const float> left, std::span<const float> right) {
  std::vector<int16_t> samples(2 * left.size());
  for (size_t i = 0; i < left.size(); ++i) {
    samples[2 * i] = to_s16(left[i]);
    samples[2 * i + 1] = to_s16(right[i]);
  }
  return samples;
}

}  // namespace heartmula
