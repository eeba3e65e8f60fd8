// What a bug report should say of program, machine and checkpoint, and what is wrong with them.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "checkpoint/settings.h"

namespace heartmula::bench {

struct Examination {
  CheckpointSettings checkpoint = {};  // looked at if any of its paths is given
  bool measure_memory = true;          // half a second and up to half a gigabyte
  std::filesystem::path root = "/";    // of the file system with proc and sys
};

/// {"program", "system", "cpu", "memory", "cuda", "disk", "libraries", "checkpoint"?, "problems": [text]}; null is what
/// the system does not say. Names no user, host or path but those of the checkpoint's settings. Each problem is one
/// line with what to do.
nlohmann::json examine(const Examination& examination);

/// The same for people: plain text that can stand in a bug report.
std::string describe_examination(const nlohmann::json& report);

}  // namespace heartmula::bench
