// What a song came to, for people.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace heartmula {

/// Of a sidecar's JSON: lines without one at the end.
std::string song_summary(const nlohmann::json& json);
/// Its first line, for a list of songs.
std::string song_line(const nlohmann::json& json);

}  // namespace heartmula
