// Reads whole audio files.
#pragma once

#include <filesystem>
#include <vector>

namespace heartmula {

class InputBytes;

/// A piece of music in memory; full scale is 1.
struct Audio {
  int rate_hz = 0;
  std::vector<std::vector<float>> channels;  ///< one (mono) or two (stereo), all of the same length

  size_t frames() const { return channels.empty() ? 0 : channels.front().size(); }
  double duration_s() const { return static_cast<double>(frames()) / rate_hz; }
};

/// Whatever libsndfile reads: WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF and more, from a file or a stream. Throws
/// Error(kUser) with its name and what is wrong: missing, not audio, more than two channels, a sample that is not
/// finite. Warns of what was cut short: its header says that it is longer, an Ogg stream has no last page, or an MP3
/// file ends within a frame. What libraries print of it goes into the log's debug lines.
Audio read_audio(const std::filesystem::path& path);
Audio read_audio(const InputBytes& input);

}  // namespace heartmula
