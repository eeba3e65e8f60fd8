// A blind listening test (ABX) as one web page that needs nothing else.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace heartmula {

inline constexpr int kMostAbxTrials = 500;
/// Audio of all pieces together; a page is a third larger than what it holds, and browsers open no larger ones.
inline constexpr uint64_t kMostAbxBytes = uint64_t{200} << 20;

/// What went into a page.
struct AbxPage {
  std::vector<std::string> systems;  ///< names of the two folders
  std::vector<std::string> pieces;   ///< names of the files, without extensions
  uint64_t audio_bytes = 0;
};

/// Writes a page that plays pieces of two systems blind: `folder` holds two folders, and files in them that have the
/// same name up to the extension (.wav, .flac, .ogg, .opus, .mp3) are versions of one piece. Warns of pieces that only
/// one of them has, and of versions that differ in loudness by more than 0.5 LU, for the louder one is told by that.
///
/// Throws Error(kUser) if there are not two folders, no common pieces, files that are no audio or too many bytes;
/// `trials` must be from 1 to kMostAbxTrials.
AbxPage write_abx_page(const std::filesystem::path& folder, const std::filesystem::path& output, int trials);

/// "TWFu" of "Man" (RFC 4648, section 4).
std::string base64(std::string_view bytes);

}  // namespace heartmula
