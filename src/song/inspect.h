// What is in a checkpoint folder, a safetensors file or a codes file.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace heartmula {

/// {"kind": "checkpoint" | "model" | "codes" | "safetensors", ...}: models, dimensions, dtypes, parameters, bytes;
/// frames and request of codes. Throws Error(kUser) if the path is none of them or anything in it is broken.
nlohmann::json inspect(const std::filesystem::path& path);

/// The same for people.
std::string describe_inspection(const nlohmann::json& inspection);

}  // namespace heartmula
