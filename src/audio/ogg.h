// Pages of Ogg files, Vorbis and Opus alike.
#pragma once

#include <cstddef>
#include <span>

namespace heartmula {

class OutputStream;

/// Whether an Ogg file ends before its last page, the one that says so; false of any other file.
bool is_cut_ogg(std::span<const std::byte> file);

/// Replaces the random serial number of a finished Ogg file by one that follows from its contents. Does nothing to a
/// file with a write error.
void set_ogg_serial(OutputStream& file);

}  // namespace heartmula
