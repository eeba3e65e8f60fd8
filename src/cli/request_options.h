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
  Request request;
  std::vector<NamedPath> inputs;
  std::optional<Codes> codes;                   // those of load_codes, if they came through a stream
  std::shared_ptr<const OutputLock> song_lock;  // of a song whose name nobody gave; null for another
};

/// What `flags` and the files that they name come to. `codes`, if not empty, is the codes file to decode. Throws
/// Error(kUser) that names the flag.
ResolvedRequest resolve_request(const SettingFlags& flags, CheckpointParts parts,
                                const std::filesystem::path& codes = {});

}  // namespace heartmula
