// The samples of a song while it is made: a file that grows, which any process that sees the folder can read along.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace heartmula {

/// s16, stereo, interleaved, little endian, 48 kHz; the rounding is that of a file of s16.
class LiveAudioWriter {
 public:
  /// Begins the file anew; it goes when the writer does. Throws Error(kFailure).
  explicit LiveAudioWriter(std::filesystem::path path);
  ~LiveAudioWriter();
  LiveAudioWriter(const LiveAudioWriter&) = delete;
  LiveAudioWriter& operator=(const LiveAudioWriter&) = delete;

  /// What the disk does not take is missing for those who listen now, and for nobody else.
  void write(std::span<const float> left, std::span<const float> right);

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::vector<int16_t> samples_;
};

/// Reads such a file from its beginning on.
class LiveAudioReader {
 public:
  /// Null if there is no such file now.
  static std::unique_ptr<LiveAudioReader> open(const std::filesystem::path& path);
  ~LiveAudioReader();
  LiveAudioReader(const LiveAudioReader&) = delete;
  LiveAudioReader& operator=(const LiveAudioReader&) = delete;

  /// What has come since, some 100 kB at most; empty if nothing has.
  std::string_view read();
  /// The writer is gone: what read() gives now is the last of it.
  bool is_over() const;

 private:
  explicit LiveAudioReader(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
  int64_t offset_ = 0;
  std::string buffer_;
};

/// The header of a WAV file of s16 whose length is not known.
std::string endless_wav_header();
/// Samples as LiveAudioWriter writes them.
std::vector<int16_t> interleaved_s16(std::span<const float> left, std::span<const float> right);

}  // namespace heartmula
