// Frames of MP3 files.
#pragma once

#include <cstddef>
#include <span>

namespace heartmula {

/// Whether an MP3 file ends within a frame; false of any other file. A streamed one has no header that would say how
/// long it is.
bool is_cut_mp3(std::span<const std::byte> file);

}  // namespace heartmula
