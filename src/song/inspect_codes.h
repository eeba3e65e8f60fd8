// What is in a codes file.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace heartmula {

class SafetensorsFile;

/// Whether the file holds the codes of a song and nothing else.
bool holds_codes(const SafetensorsFile& file);

/// {"kind": "codes", ...}: frames, duration, request. Throws Error(kUser) if anything in it is broken.
nlohmann::json inspect_codes(const SafetensorsFile& file);

/// The same for people.
std::string describe_codes(const nlohmann::json& inspection);

}  // namespace heartmula
