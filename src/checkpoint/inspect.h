// What is in a checkpoint folder or a safetensors file.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace heartmula {

class SafetensorsFile;

/// {"kind": "checkpoint" | "model", ...}: models, dimensions, dtypes, parameters, bytes. Throws Error(kUser) if the
/// folder is none of them or anything in it is broken.
nlohmann::json inspect_folder(const std::filesystem::path& path);
/// {"kind": "safetensors", ...}: tensors, dtypes, parameters, bytes, metadata.
nlohmann::json inspect_file(const SafetensorsFile& file);

/// The same for people.
std::string describe_inspection(const nlohmann::json& inspection);

}  // namespace heartmula
