// What is in a checkpoint folder or a safetensors file.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace heartmula {

/// {"kind": "checkpoint" | "model" | "safetensors", ...}: models, dimensions, dtypes, parameters, bytes. Throws
/// Error(kUser) if the path is none of them or anything in it is broken.
nlohmann::json inspect(const std::filesystem::path& path);

/// The same for people.
std::string describe_inspection(const nlohmann::json& inspection);

}  // namespace heartmula
