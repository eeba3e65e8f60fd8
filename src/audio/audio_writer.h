// Writes a song piece by piece, as it is made.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

#include "audio/format.h"
#include "audio/tags.h"
#include "heartmula/cancel.h"

namespace heartmula {

/// Stereo at kSampleRateHz. A regular file is written under a temporary name beside its own and takes its place at the
/// end, whole and synced; a pipe or a device gets the bytes as they are made, and a file that is the
/// standard output its final header at the end (not one that is appended to).
///
/// s16 and s24: rounded to nearest, clipped at full scale, the same values in WAV and FLAC. f32: as they are. Ogg
/// Vorbis at quality 6 and MP3 at variable bit rate V2 (about 190 kbit/s each) and Opus (160 kbit/s) are clipped, too.
/// Not-a-number becomes 0. The same song is the same file, byte for byte; a stream of Ogg has a random serial number.
class AudioWriter {
 public:
  /// `samples` as from resolve_sample_format(). Throws Error(kUser) if nothing can be written there. When `cancel` is
  /// raised, write() and finish() throw Error(kCancelled) rather than wait for the reader of a pipe.
  AudioWriter(const std::filesystem::path& path, AudioFormat format, SampleFormat samples,
              const CancelToken* cancel = nullptr);
  /// Without finish() nothing is left of a regular file.
  ~AudioWriter();
  AudioWriter(const AudioWriter&) = delete;
  AudioWriter& operator=(const AudioWriter&) = delete;

  /// The next piece, of any length, the same for both channels. Throws Error(kFailure) "PATH: No space left on device".
  void write(std::span<const float> left, std::span<const float> right);

  /// Ends the song; tags are added to regular files only, and empty ones (`{}`) leave nothing but music. Throws
  /// Error(kFailure) like write(), and if the song is empty.
  void finish(const Tags& tags);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace heartmula
