// What is in a codes file.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace heartmula {

/// Whether the safetensors file holds the codes of a song and nothing else. False for a folder.
bool is_codes_file(const std::filesystem::path& path);

/// {"kind": "codes", ...}: frames, duration, request. Throws Error(kUser) if anything in it is broken.
nlohmann::json inspect_codes(const std::filesystem::path& path);

/// The same for people.
std::string describe_codes(const nlohmann::json& inspection);

}  // namespace heartmula
