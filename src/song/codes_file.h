// The codes of a song on disk: a safetensors file with the tensor `codes`, I32 [frames, 8], and the request that made
// them as JSON in its metadata, with the fingerprints of the models.
#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "heartmula/frame.h"

namespace heartmula {

class SafetensorsFile;

/// What codes are to a program: the request that made them, and the fingerprints of the models that it was made with.
/// Empty where nothing is known.
struct CodesOrigin {
  std::string request_json;
  std::string language_model;
  std::string codec;
};

struct Codes {
  std::vector<Frame> frames;
  CodesOrigin origin;
  std::string name;  // of the file, for messages
};

/// A tensor of I32 or I64, [frames, 8]; every code is checked to be at least 0 and below kCodeLimit, which is far above
/// any codebook. Throws Error(kUser) with the path and what is wrong.
Codes read_codes(const std::filesystem::path& path);
Codes codes_in(const SafetensorsFile& file);
/// The same of a file in memory; `name` stands for the path in messages.
Codes parse_codes(std::span<const std::byte> bytes, const std::string& name);

/// The file as it lies on the disk.
std::vector<std::byte> encode_codes(std::span<const Frame> frames, const CodesOrigin& origin);

inline constexpr int64_t kCodeLimit = int64_t{1} << 20;

/// Keeps a file up to date while a song is made: at any moment it is whole and holds every frame so far. After a power
/// cut the last second may be missing.
class CodesWriter {
 public:
  /// `begin`: frames from an earlier run that the song begins with. Writes nothing yet. Throws Error(kUser) if `path`
  /// cannot be written, or is a pipe or a device.
  CodesWriter(std::filesystem::path path, CodesOrigin origin, std::vector<Frame> begin = {});

  /// Replaces the file by one with this frame, too. Throws Error(kFailure) "PATH: No space left on device"; the file
  /// before stays, and finish() knows nothing of the frame.
  void append(const Frame& frame);
  /// The file is on the disk when it returns, also if there was no frame. Throws like append().
  void finish();
  /// Deletes the file, if there is one.
  void remove();

 private:
  void save(bool sync);

  std::filesystem::path path_;
  CodesOrigin origin_;
  std::vector<Frame> frames_;
  std::chrono::steady_clock::time_point last_sync_;
};

}  // namespace heartmula
