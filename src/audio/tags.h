// What players show of a song, and the request that made it, in the file itself.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "audio/format.h"

namespace heartmula {

class OutputStream;

/// Everything is UTF-8; an empty string is left out. Any length and script; a zero character ends a text.
struct Tags {
  std::string title;
  std::string artist;
  std::string genre;  ///< the song's tags: "piano,happy"
  std::string comment;
  std::string lyrics;
  std::string seed;          ///< field HEARTMULA_SEED
  std::string request_json;  ///< field HEARTMULA_REQUEST
};

/// Adds the tags to a finished audio file: ID3v2.3 in WAV (and title, artist, genre and comment as INFO) and MP3, for
/// older players know no later one; Vorbis comments in FLAC, Ogg and Opus. Look at file.error() afterwards. Throws
/// Error(kFailure) if it is no file of this format; `name` stands for it in the message.
void write_tags(OutputStream& file, AudioFormat format, const Tags& tags, const std::filesystem::path& name);

/// Tags::request_json of an audio file, of which `audio` is all; null if its first bytes are not those of WAV, FLAC,
/// Ogg, Opus or MP3. Throws Error(kUser) that begins with `name` if it is audio that holds no request.
std::optional<std::string> read_request_json(std::span<const std::byte> audio, const std::string& name);

}  // namespace heartmula
