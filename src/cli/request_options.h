// From a command line to a request, for generate and decode.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "cli/setting_flags.h"
#include "song/outputs.h"

namespace heartmula {

/// A request, and the files that it was made from.
struct ResolvedRequest {
  Request request;
  std::vector<NamedPath> inputs;
  std::shared_ptr<const void> temporary;  // a file that goes with the last copy of this
};

/// What `flags` and the files that they name come to. `codes`, if not empty, is the codes file to decode. Throws
/// Error(kUser) that names the flag.
ResolvedRequest resolve_request(const SettingFlags& flags, CheckpointParts parts,
                                const std::filesystem::path& codes = {});

}  // namespace heartmula
