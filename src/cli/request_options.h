// From a command line to a request, for generate and decode.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "cli/setting_flags.h"
#include "song/codes_file.h"
#include "song/outputs.h"

namespace heartmula {

/// A request, and the files that it was made from.
struct ResolvedRequest {
  std::string name = {};  // for messages: "songs.jsonl, line 3"; empty if the flags alone say what the song is
  Request request = {};
  std::vector<NamedPath> inputs = {};
  std::optional<Codes> codes = {};                   // those of load_codes, if they came through a stream
  std::shared_ptr<const OutputLock> song_lock = {};  // of a song whose name nobody gave; null for another
};

/// What `flags` and the files that they name come to. `codes`, if not empty, is the codes file to decode. Throws
/// Error(kUser) that names the flag.
ResolvedRequest resolve_request(const SettingFlags& flags, CheckpointParts parts,
                                const std::filesystem::path& codes = {});

/// Whether the flags ask for more than one song: --requests, or --songs above 1.
bool asks_for_songs(const SettingFlags& flags);
/// The songs that they ask for, each with a seed and an output of its own, of one checkpoint and machine. Throws
/// Error(kUser) that names the flag, or the file and the line.
std::vector<ResolvedRequest> resolve_requests(const SettingFlags& flags);

}  // namespace heartmula
