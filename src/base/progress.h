// How long work tells how far it is.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace heartmula {

/// A stage ("load", "frames", "codec", "convert") has done `done` of `total` parts (models, frames, parts of windows,
/// bytes) after `seconds`.
using ProgressSink = std::function<void(std::string_view stage, int64_t done, int64_t total, double seconds)>;

}  // namespace heartmula
