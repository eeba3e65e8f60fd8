// From a command line to a request, for generate and decode.
#pragma once

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
};

/// What `flags` and the files that they name come to. `codes`, if not empty, is the codes file to decode. Throws
/// Error(kUser) that names the flag.
ResolvedRequest resolve_request(const SettingFlags& flags, CheckpointParts parts, const std::string& codes = {});

}  // namespace heartmula
