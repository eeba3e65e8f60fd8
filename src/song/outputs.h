// Where a song goes, and what lies there already: nothing that somebody needs is written over.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/output_lock.h"
#include "checkpoint/checkpoint.h"
#include "song/request.h"

namespace heartmula {

/// A path and the flag, or what else, it comes from: "--lyrics".
struct NamedPath {
  std::string name;
  std::filesystem::path path;
};

/// "song.flac.json" beside "song.flac".
std::filesystem::path sidecar_path(const std::filesystem::path& song);

/// Throws Error(kUser) if two outputs of the request are one file, or if one of them is one of `inputs` or anything
/// else that the song is made from: codes, checkpoint, adapters, style vector. Looks at names and files; opens nothing.
void check_outputs(const Request& request, const std::vector<NamedPath>& inputs, const CheckpointPaths& checkpoint);

/// Throws Error(kUser) that names both songs, counted from 1, if two of them have an output in common, or if one of
/// them would write over codes that another one goes on from.
void check_different_outputs(const std::vector<const Request*>& requests);

/// Where the `number`th of several songs goes: "{n}" and "{seed}" in `path` stand for its number and its seed; a path
/// that has neither gets the number, "song-3.flac".
std::string numbered_path(const std::string& path, int64_t number, uint64_t seed);

/// "song.mp3", or the first of "song-1.mp3", "song-2.mp3", ... that is not there yet.
std::string unused_path(const std::string& path);
/// The same, of those that no other program is writing to: it has the lock.
struct ClaimedPath {
  std::string path;
  OutputLock lock;
};
ClaimedPath claim_unused_path(const std::string& path);

/// The codes that a song goes on from.
struct LoadedCodes {
  std::filesystem::path path;  // empty if there are none
  bool is_unfinished = false;  // left by a run of this very song that was interrupted: they grow, and go with its end
};

/// A new name among the temporary files that nobody can have laid a trap at: "heartmula-0123456789abcdef.ENDING".
std::filesystem::path temporary_path(std::string_view ending);

/// Where the codes of a song are while it is made, if nothing is in the way and it does not go into a pipe.
std::filesystem::path usual_codes_path(const Request& request);

/// Where the codes are while the song is made: --save_codes; beside the song; or among the temporary files if it goes
/// into a pipe. Codes that lie beside the song from an earlier run are kept under another name, and never those that
/// are loaded, unless they are unfinished.
std::filesystem::path prepare_codes_path(const Request& request, bool is_stream, const LoadedCodes& loaded);

}  // namespace heartmula
